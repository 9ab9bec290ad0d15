// Package prometheus holds the recording and alert rules of xentrace. Its tests run them,
// and the queries of packaging/grafana, in Debian's Prometheus, which .ci/prometheus
// unpacks.
package prometheus
