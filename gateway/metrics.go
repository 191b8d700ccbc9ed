package gateway

import (
	"net/http"
	"sync/atomic"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/promhttp"

	"github.com/karmesh/kar/runtime/engine"
)

// metrics counts requests by class of route and of status, so the number of
// series does not grow with apps, actors or clients.
type metrics struct {
	handler  http.Handler
	requests *prometheus.HistogramVec
	cells    map[*route]*[6]atomic.Pointer[prometheus.Observer] // by status / 100; a key nil counts unknown paths
}

func newMetrics(routes []*route, cfg Config) (*metrics, error) {
	m := requestMetrics(routes)
	registry := prometheus.NewRegistry()
	for _, c := range []prometheus.Collector{m.requests, newMeshCollector(cfg.Mesh, cfg.Version, cfg.Node)} {
		if err := registry.Register(c); err != nil {
			return nil, err
		}
	}
	m.handler = promhttp.HandlerFor(registry, promhttp.HandlerOpts{})
	return m, nil
}

func requestMetrics(routes []*route) *metrics {
	m := &metrics{
		requests: prometheus.NewHistogramVec(prometheus.HistogramOpts{
			Name:    "kar_http_request_seconds",
			Help:    "Time from the arrival of an API request to the end of its answer; calls wait for their outcome.",
			Buckets: []float64{.0005, .001, .0025, .005, .01, .025, .05, .1, .25, .5, 1, 5, 30, 120},
		}, []string{"route", "status"}),
		cells: make(map[*route]*[6]atomic.Pointer[prometheus.Observer], len(routes)+1),
	}
	for _, r := range append([]*route{nil}, routes...) {
		m.cells[r] = new([6]atomic.Pointer[prometheus.Observer])
	}
	return m
}

// observe counts one request; status 0 is one that was never answered.
func (m *metrics) observe(r *route, status int, took time.Duration) {
	class := status / 100
	if class > 5 {
		class = 0
	}
	cell := &m.cells[r][class]
	o := cell.Load()
	if o == nil {
		name := "none"
		if r != nil {
			name = r.name
		}
		made := m.requests.WithLabelValues(name, [...]string{"other", "1xx", "2xx", "3xx", "4xx", "5xx"}[class])
		o = &made
		cell.Store(o)
	}
	(*o).Observe(took.Seconds())
}

// A meshCollector reads the counters of the mesh when somebody scrapes.
type meshCollector struct {
	stats  func() engine.Stats
	build  *prometheus.Desc
	labels []string
	series []series
}

type series struct {
	desc  *prometheus.Desc
	kind  prometheus.ValueType
	value func(*engine.Stats) float64
}

func newMeshCollector(mesh *engine.Mesh, version, node string) *meshCollector {
	c := &meshCollector{
		stats:  mesh.Stats,
		build:  prometheus.NewDesc("kar_build_info", "Version and node of this gateway.", []string{"version", "node"}, nil),
		labels: []string{version, node},
	}
	add := func(kind prometheus.ValueType, name, help string, value func(*engine.Stats) float64) {
		c.series = append(c.series, series{prometheus.NewDesc("kar_"+name, help, nil, nil), kind, value})
	}
	counter := func(name, help string, value func(*engine.Stats) float64) {
		add(prometheus.CounterValue, name, help, value)
	}
	gauge := func(name, help string, value func(*engine.Stats) float64) {
		add(prometheus.GaugeValue, name, help, value)
	}
	counter("requests_accepted_total", "Requests made durable.", func(s *engine.Stats) float64 { return float64(s.Accepted) })
	counter("requests_completed_total", "Requests whose outcome is recorded.", func(s *engine.Stats) float64 { return float64(s.Completed) })
	counter("requests_retried_total", "Attempts after the first.", func(s *engine.Stats) float64 { return float64(s.Retried) })
	counter("hosts_lost_total", "Hosts counted as lost.", func(s *engine.Stats) float64 { return float64(s.HostsLost) })
	counter("reminders_fired_total", "Firings of reminders.", func(s *engine.Stats) float64 { return float64(s.RemindersFired) })
	counter("events_delivered_total", "Events turned into requests.", func(s *engine.Stats) float64 { return float64(s.EventsDelivered) })
	counter("dead_letters_total", "Tells that ended with an error, and promises that ended with an error of the app.", func(s *engine.Stats) float64 { return float64(s.DeadLetters) })
	counter("log_appends_total", "Rounds appended to the log.", func(s *engine.Stats) float64 { return float64(s.Appends) })
	counter("log_appended_records_total", "Records appended to the log.", func(s *engine.Stats) float64 { return float64(s.AppendedRecords) })
	counter("log_appended_bytes_total", "Bytes appended to the log.", func(s *engine.Stats) float64 { return float64(s.AppendedBytes) })
	counter("log_append_seconds_total", "Time spent in appends.", func(s *engine.Stats) float64 { return s.AppendSeconds })
	counter("log_trims_total", "Times the start of the log was cut off.", func(s *engine.Stats) float64 { return float64(s.Trims) })
	gauge("log_bytes", "Bytes in the log.", func(s *engine.Stats) float64 { return float64(s.LogBytes) })
	gauge("recovery_seconds", "Time of the last recovery.", func(s *engine.Stats) float64 { return s.RecoverySeconds })
	gauge("hosts", "Hosts attached.", func(s *engine.Stats) float64 { return float64(s.Hosts) })
	gauge("actors_active", "Actors active on a host.", func(s *engine.Stats) float64 { return float64(s.ActiveActors) })
	gauge("requests_pending", "Requests accepted and not completed.", func(s *engine.Stats) float64 { return float64(s.Pending) })
	gauge("requests_parked", "Requests that wait for a component.", func(s *engine.Stats) float64 { return float64(s.Parked) })
	gauge("requests_running", "Requests running on a host.", func(s *engine.Stats) float64 { return float64(s.Running) })
	gauge("reminders", "Reminders set.", func(s *engine.Stats) float64 { return float64(s.Reminders) })
	gauge("subscriptions", "Subscriptions to topics.", func(s *engine.Stats) float64 { return float64(s.Subscriptions) })
	return c
}

// Describe implements prometheus.Collector.
func (c *meshCollector) Describe(out chan<- *prometheus.Desc) {
	out <- c.build
	for _, s := range c.series {
		out <- s.desc
	}
}

// Collect implements prometheus.Collector.
func (c *meshCollector) Collect(out chan<- prometheus.Metric) {
	out <- prometheus.MustNewConstMetric(c.build, prometheus.GaugeValue, 1, c.labels...)
	stats := c.stats()
	for _, s := range c.series {
		out <- prometheus.MustNewConstMetric(s.desc, s.kind, s.value(&stats))
	}
}
