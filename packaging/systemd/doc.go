// Package systemd holds the units of xentrace. Its tests check them with systemd-analyze.
package systemd
