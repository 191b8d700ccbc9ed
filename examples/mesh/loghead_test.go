package mesh_test

import (
	"fmt"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/IBM/sarama"

	"github.com/karmesh/kar/runtime/runtimetest/parts"
)

// TestMeshSoakLogHead deletes the head of the log, as somebody does who sets a
// retention or runs kafka-delete-records. Owners that live write everything anew
// and say so; where no owner lives the log is damaged, and is never read as empty.
func TestMeshSoakLogHead(t *testing.T) {
	soak(t)
	m, w := newMesh(t, options{kafka: parts.NeedKafka(t, parts.KafkaOptions{})}), newWitness(t)
	gs := m.three()
	c := m.component(w, "")
	for i := range 30 {
		m.write(fmt.Sprintf("cold%d", i), fmt.Sprint(i))
	}
	l := m.load(w, loadOptions{clients: 12})
	l.progress("before", 20)
	for round := range 3 {
		torn, trims := m.metric("kar_log_torn_total"), m.metric("kar_log_trims_total")
		cut := float64(m.cutLog(t))
		eventually(t, time.Minute, "the owners have seen it and written everything anew", func() bool {
			return m.metric("kar_log_torn_total") >= torn+cut && m.metric("kar_log_trims_total") >= trims+cut
		})
		l.progress("the head is gone", 10)
		m.forget(gs[round])
		begin := time.Now()
		gs[round].end(syscall.SIGKILL) // the next owner reads what was written anew
		gs[round] = m.gateway()
		l.progress("and a gateway was killed", 20)
		l.gaps(t, "gateway killed after the head was cut", begin, time.Now())
	}
	l.verify()
	for i := range 30 {
		m.reads(fmt.Sprintf("cold%d", i), fmt.Sprint(i))
	}
	c.untouched()
	c.end(syscall.SIGTERM)
	for _, g := range gs {
		m.forget(g)
		g.end(syscall.SIGKILL)
	}
	m.cutLog(t)
	g := m.launch()
	eventually(t, time.Minute, "the log is refused by name", func() bool { return strings.Contains(g.out.String(), "damaged_data") })
	for i := range 30 {
		status, text, err := ask("GET", g.url+fmt.Sprintf("/apps/a/kar/v1/actor/T/cold%d/state/n", i))
		if err == nil && (status == 200 && text != fmt.Sprint(i) || status == 404) {
			t.Errorf("state is read as %d %q", status, text)
		}
	}
}

// cutLog deletes all records of all partitions, and tells of how many there were any.
func (m *mesh) cutLog(t *testing.T) (cut int) {
	t.Helper()
	config := sarama.NewConfig()
	config.Version = sarama.V2_8_0_0
	client, err := sarama.NewClient(m.kafka.Brokers(), config)
	must(t, err)
	admin, err := sarama.NewClusterAdminFromClient(client)
	must(t, err)
	defer func() { must(t, admin.Close()) }()
	topic, ends := "_kar."+m.name+".log", map[int32]int64{}
	for p := range int32(partitions) {
		first, err := client.GetOffset(topic, p, sarama.OffsetOldest)
		must(t, err)
		ends[p], err = client.GetOffset(topic, p, sarama.OffsetNewest)
		must(t, err)
		if ends[p] > first {
			cut++
		}
	}
	must(t, admin.DeleteRecords(topic, ends))
	return cut
}
