// Package driverfiles tests check --driver-file on every driver that the lab has (test/xen/driver-files).
package driverfiles
