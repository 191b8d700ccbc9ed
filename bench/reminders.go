package main

import (
	"fmt"
	"time"
)

// putReminder sets a reminder of an actor that calls due with its due time as argument.
func putReminder(c *conn, actor, id string, due time.Time) error {
	body := fmt.Appendf(nil, `{"path":"/due","targetTime":%q,"data":[%d]}`, due.UTC().Format("2006-01-02T15:04:05.000Z"), due.UnixMilli())
	status, answer, err := c.do("PUT", prefix+"/kar/v1/actor/Bench/"+actor+"/reminders/"+id, "Content-Type: application/json\r\n", body)
	if err != nil {
		return err
	}
	if status != 204 && status != 200 {
		return fmt.Errorf("reminder %s of %s: %d %.200q", id, actor, status, answer)
	}
	return nil
}

// reminders keeps a million pending, lets 20,000 come due at one instant, and
// then 1,000 in each second.
func (b *bench) reminders() error {
	pending, storm, perSec := b.count(1_000_000), b.count(20_000), b.count(1000)
	m, err := b.mesh("reminders")
	if err != nil {
		return err
	}
	defer m.close()
	if err := m.startComponent(); err != nil {
		return err
	}
	if _, err := load("tcp", m.api, 16, 0, time.Minute, 2000, call(prefix, 1000, "echo")); err != nil { // every actor is active
		return err
	}
	far := time.Now().Add(48 * time.Hour).Truncate(time.Millisecond)
	f, err := load("tcp", m.api, 128, 0, time.Hour, pending, func(c *conn, n int) error {
		return putReminder(c, fmt.Sprintf("p%d", n%100_000), fmt.Sprintf("r%d", n), far.Add(time.Duration(n)*time.Millisecond))
	})
	if err != nil {
		return fmt.Errorf("%w\n%s", err, m.gateway.tail())
	}
	b.row(fmt.Sprintf("%d reminders set, 128 clients", pending), f.String(), "", "")
	b.row("gateway resident, all pending", mega(m.gateway.resident()), "", "")

	// 20,000 at one instant, which is late enough that all are set by then.
	instant := time.Now().Add(10 * time.Second).Truncate(time.Millisecond)
	if _, err := load("tcp", m.api, 64, 0, time.Minute, storm, func(c *conn, n int) error {
		return putReminder(c, fmt.Sprintf("a%d", n%1000), fmt.Sprintf("s%d", n), instant)
	}); err != nil {
		return err
	}
	if time.Now().After(instant) {
		return fmt.Errorf("setting %d reminders took longer than 10 s", storm)
	}
	l, err := m.fired(storm, instant.Add(time.Minute))
	if err != nil {
		return err
	}
	b.row(fmt.Sprintf("%d due at one instant: last one fired after", storm), fmt.Sprintf("%s (p50 %s, p99 %s, early %d)", short(l.Max), short(l.P50), short(l.P99), l.Early), "<= 2 s", "")

	// A thousand a second for ten seconds.
	from := time.Now().Add(15 * time.Second).Truncate(time.Millisecond)
	total := 10 * perSec
	if _, err := load("tcp", m.api, 64, 0, time.Minute, total, func(c *conn, n int) error {
		return putReminder(c, fmt.Sprintf("a%d", n%1000), fmt.Sprintf("t%d", n), from.Add(time.Duration(n)*time.Second/time.Duration(perSec)).Truncate(time.Millisecond))
	}); err != nil {
		return err
	}
	if l, err = m.fired(total, from.Add(time.Minute)); err != nil {
		return err
	}
	b.row(fmt.Sprintf("%d/s: late by", perSec), fmt.Sprintf("p50 %s  p99 %s  max %s (early %d)", short(l.P50), short(l.P99), short(l.Max), l.Early), "p99 <= 250 ms", "")
	return nil
}

// fired waits until the app has seen that many firings, then a moment more for one too many.
func (m *mesh) fired(n int, limit time.Time) (lateness, error) {
	for time.Now().Before(limit) {
		time.Sleep(200 * time.Millisecond)
		c := newConn("tcp", m.appAddr)
		_, body, err := c.do("GET", "/bench/count", "", nil)
		c.close()
		if err != nil {
			return lateness{}, err
		}
		if string(body) == fmt.Sprint(n) {
			return m.late()
		}
	}
	l, err := m.late()
	if err == nil {
		err = fmt.Errorf("%d of %d reminders fired", l.Count, n)
	}
	return l, err
}
