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
	for _, c := range []prometheus.Collector{m.requests, newMeshCollector(cfg)} {
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
	stats  func() figures
	build  *prometheus.Desc
	labels []string
	series []series
}

// figures are everything that is counted outside this room.
type figures struct {
	engine.Stats
	Peers PeerStats
}

type series struct {
	desc  *prometheus.Desc
	kind  prometheus.ValueType
	value func(*figures) float64
}

func newMeshCollector(cfg Config) *meshCollector {
	c := &meshCollector{
		stats: func() figures {
			f := figures{Stats: cfg.Mesh.Stats()}
			if cfg.Peers != nil {
				f.Peers = cfg.Peers()
			}
			return f
		},
		build:  prometheus.NewDesc("kar_build_info", "Version and node of this gateway.", []string{"version", "node"}, nil),
		labels: []string{cfg.Version, cfg.Node},
	}
	add := func(kind prometheus.ValueType, name, help string, value func(*figures) float64) {
		c.series = append(c.series, series{prometheus.NewDesc("kar_"+name, help, nil, nil), kind, value})
	}
	counter := func(name, help string, value func(*figures) float64) {
		add(prometheus.CounterValue, name, help, value)
	}
	gauge := func(name, help string, value func(*figures) float64) {
		add(prometheus.GaugeValue, name, help, value)
	}
	counter("requests_accepted_total", "Requests made durable.", func(s *figures) float64 { return float64(s.Accepted) })
	counter("requests_completed_total", "Requests whose outcome is recorded.", func(s *figures) float64 { return float64(s.Completed) })
	counter("requests_retried_total", "Attempts after the first.", func(s *figures) float64 { return float64(s.Retried) })
	counter("hosts_ended_total", "Hosts whose end was reported.", func(s *figures) float64 { return float64(s.HostsEnded) })
	counter("hosts_lost_total", "Hosts counted as lost: nothing was heard of them.", func(s *figures) float64 { return float64(s.HostsLost) })
	counter("reminders_fired_total", "Firings of reminders.", func(s *figures) float64 { return float64(s.RemindersFired) })
	counter("events_delivered_total", "Events turned into requests.", func(s *figures) float64 { return float64(s.EventsDelivered) })
	counter("dead_letters_total", "Tells that ended with an error, and promises that ended with an error of the app.", func(s *figures) float64 { return float64(s.DeadLetters) })
	counter("log_appends_total", "Rounds appended to the log.", func(s *figures) float64 { return float64(s.Appends) })
	counter("log_appended_records_total", "Records appended to the log.", func(s *figures) float64 { return float64(s.AppendedRecords) })
	counter("log_appended_bytes_total", "Bytes appended to the log.", func(s *figures) float64 { return float64(s.AppendedBytes) })
	counter("log_append_seconds_total", "Time spent in appends.", func(s *figures) float64 { return s.AppendSeconds })
	counter("log_trims_total", "Times the start of the log was cut off.", func(s *figures) float64 { return float64(s.Trims) })
	counter("log_torn_total", "Times that somebody else had deleted the front of a log.", func(s *figures) float64 { return float64(s.LogsTorn) })
	counter("events_lost_total", "Offsets of events that a topic had confirmed and has lost, for each group of subscribers.", func(s *figures) float64 { return float64(s.EventsLost) })
	counter("terms_lost_total", "Times that a component knew of a term that the log had lost: an older copy was put back.", func(s *figures) float64 { return float64(s.TermsLost) })
	gauge("work_bytes", "Memory that open requests take, and changes that wait for the store.", func(s *figures) float64 { return float64(s.WorkBytes) })
	gauge("work_limit_bytes", "Memory that open requests may take, 0 for no limit.", func(s *figures) float64 { return float64(s.WorkLimit) })
	gauge("log_bytes", "Bytes in the log.", func(s *figures) float64 { return float64(s.LogBytes) })
	gauge("recovery_seconds", "Time of the last recovery.", func(s *figures) float64 { return s.RecoverySeconds })
	gauge("hosts", "Hosts attached.", func(s *figures) float64 { return float64(s.Hosts) })
	gauge("actors_active", "Actors active on a host.", func(s *figures) float64 { return float64(s.ActiveActors) })
	gauge("requests_pending", "Requests accepted and not completed.", func(s *figures) float64 { return float64(s.Pending) })
	gauge("requests_parked", "Requests that wait for a component.", func(s *figures) float64 { return float64(s.Parked) })
	gauge("requests_running", "Requests running on a host.", func(s *figures) float64 { return float64(s.Running) })
	gauge("reminders", "Reminders set.", func(s *figures) float64 { return float64(s.Reminders) })
	gauge("reminders_waiting", "Due reminders that wait until their app has fewer unfinished firings.", func(s *figures) float64 { return float64(s.RemindersWaiting) })
	gauge("subscriptions", "Subscriptions to topics.", func(s *figures) float64 { return float64(s.Subscriptions) })
	gauge("groups_waiting", "Subscriptions and groups that wait until their app has fewer unfinished events.", func(s *figures) float64 { return float64(s.GroupsWaiting) })
	gauge("partition_answers_waiting", "Answers of other partitions that have not come, before which interrupted work does not begin again.", func(s *figures) float64 { return float64(s.AnswersWaiting) })
	sharing(counter, gauge)
	return c
}

// sharing are the series about partitions, their store, and other gateways.
func sharing(counter, gauge func(name, help string, value func(*figures) float64)) {
	gauge("partitions", "Partitions of the mesh.", func(s *figures) float64 { return float64(s.Partitions) })
	gauge("partitions_owned", "Partitions that this gateway owns.", func(s *figures) float64 { return float64(s.Owned) })
	gauge("partitions_unowned", "Partitions of which this gateway knows no owner.", func(s *figures) float64 { return float64(s.Unowned) })
	gauge("partitions_down", "Partitions that cannot work at this gateway now: their log cannot be read or written, or their loop stands still.", func(s *figures) float64 { return float64(s.Down) })
	gauge("partitions_state_lost", "Owned partitions of which state is lost, and refused.", func(s *figures) float64 { return float64(s.StateLost) })
	counter("partitions_taken_over_total", "Partitions taken from a gateway that was gone, or from nobody.", func(s *figures) float64 { return float64(s.TakenOver) })
	counter("partitions_handed_over_total", "Partitions taken from a gateway that handed them over.", func(s *figures) float64 { return float64(s.HandedOver) })
	counter("partitions_given_total", "Partitions handed over to another gateway.", func(s *figures) float64 { return float64(s.Given) })
	counter("partitions_take_seconds_total", "Time spent on taking partitions, the reading of their logs included.", func(s *figures) float64 { return s.TakeSeconds })

	gauge("gateways_known", "Gateways in the list of the mesh.", func(s *figures) float64 { return float64(s.Listed) })
	gauge("gateways_alive", "Gateways that this one takes to be alive, itself included.", func(s *figures) float64 { return float64(s.Gateways) })
	counter("forwarded_total", "Questions passed to the gateway that owns the partition.", func(s *figures) float64 { return float64(s.Forwarded) })
	counter("forwarded_served_total", "Questions of other gateways answered here.", func(s *figures) float64 { return float64(s.Served) })
	gauge("peer_streams", "Gateways to which the stream stands.", func(s *figures) float64 { return float64(s.Peers.Up) })
	counter("peer_frames_in_total", "Messages from other gateways.", func(s *figures) float64 { return float64(s.Peers.FramesIn) })
	counter("peer_frames_out_total", "Messages to other gateways.", func(s *figures) float64 { return float64(s.Peers.FramesOut) })
	counter("peer_bytes_in_total", "Bytes of messages from other gateways.", func(s *figures) float64 { return float64(s.Peers.BytesIn) })
	counter("peer_bytes_out_total", "Bytes of messages to other gateways.", func(s *figures) float64 { return float64(s.Peers.BytesOut) })
	counter("peer_breaks_total", "Streams to other gateways that broke.", func(s *figures) float64 { return float64(s.Peers.Breaks) })
	counter("peer_refused_total", "Dials of others that were not let in.", func(s *figures) float64 { return float64(s.Peers.Refused) })

	counter("log_append_unknown_total", "Tries to append of which the outcome was unknown at first.", func(s *figures) float64 { return float64(s.UnknownAppends) })
	gauge("log_append_waits_seconds", "How long the oldest append has had no answer.", func(s *figures) float64 { return s.AppendWaits })
	gauge("log_reaches_back_seconds", "Since when the logs of all owned partitions hold everything.", func(s *figures) float64 { return s.ReachesBack })
	gauge("store_lag_records", "Records that the store is behind the log, of the worst owned partition.", func(s *figures) float64 { return float64(s.StoreLag) })
	gauge("store_waiting_changes", "Changes that are not in the store yet.", func(s *figures) float64 { return float64(s.StoreWaits) })
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
