package gateway

import (
	"encoding/json"
	"fmt"
	"net/http"
	"strings"

	"github.com/karmesh/kar/runtime"
)

// A subscriptionAnswer is a subscription as KAR 1.x writes it; note the small
// letter of actor, unlike in reminders, and the names without capitals.
type subscriptionAnswer struct {
	Actor       actorName `json:"actor"`
	ID          string    `json:"id"`
	Path        string    `json:"path"`
	Topic       string    `json:"topic"`
	Group       string    `json:"group"`
	ContentType string    `json:"contenttype,omitempty"`
	Oldest      bool      `json:"oldestoffset"`
}

// subscribe serves PUT /events/{subscription}: 204 when it is new, else 200.
func (x *exchange) subscribe() error {
	var ask map[string]string
	if err := x.decode(&ask, runtime.CodeBadSubscription, "Request body was not a subscription"); err != nil {
		return err
	}
	path, ok := methodPath(ask["path"])
	if !ok {
		return runtime.Errorf(runtime.CodeBadSubscription, "the path of a subscription must start with a slash and name a method, not %q", clip(ask["path"], 60))
	}
	if err := runtime.CheckTopicName(ask["topic"]); err != nil {
		return err
	}
	replaced, err := x.mesh.Subscribe(x.r.Context(), x.caller, runtime.Subscription{
		Actor:       x.actor(),
		ID:          x.names[3],
		Path:        path,
		Topic:       ask["topic"],
		ContentType: ask["contentType"],
		Group:       ask["group"],
		Oldest:      ask["offsetOldest"] == "true",
	})
	if err != nil {
		return err
	}
	return x.replaced(replaced)
}

func answerSubscription(s runtime.Subscription) subscriptionAnswer {
	a := subscriptionAnswer{
		Actor: actorName{s.Actor.Type, s.Actor.ID},
		ID:    s.ID, Path: s.Path, Topic: s.Topic, Group: s.Group, ContentType: s.ContentType, Oldest: s.Oldest,
	}
	if a.Group == "" {
		a.Group = s.ID // what KAR 1.x shows
	}
	return a
}

func (x *exchange) listSubscriptions() error {
	list, err := x.mesh.Subscriptions(x.r.Context(), x.actor(), "")
	if err != nil {
		return err
	}
	out := make([]subscriptionAnswer, len(list))
	for i, s := range list {
		out[i] = answerSubscription(s)
	}
	return x.json(http.StatusOK, out)
}

func (x *exchange) getSubscription() error {
	list, err := x.mesh.Subscriptions(x.r.Context(), x.actor(), x.names[3])
	if err != nil {
		return err
	}
	if len(list) == 0 {
		return x.absent("null", "application/json")
	}
	return x.json(http.StatusOK, answerSubscription(list[0]))
}

func (x *exchange) unsubscribeAll() error {
	n, err := x.mesh.Unsubscribe(x.r.Context(), x.caller, x.actor(), "")
	if err != nil {
		return err
	}
	return x.count(n)
}

func (x *exchange) unsubscribe() error {
	n, err := x.mesh.Unsubscribe(x.r.Context(), x.caller, x.actor(), x.names[3])
	if err != nil {
		return err
	}
	if n == 0 {
		return x.absent("0", "text/plain; charset=utf-8")
	}
	return x.count(n)
}

// createTopic serves PUT /event/{topic}. Replication and configuration are read, so
// that a mistake shows, and the gateway's own settings hold. A topic has one
// partition, and who asked for more is told.
func (x *exchange) createTopic() error {
	topic := x.names[1]
	if err := runtime.CheckTopicName(topic); err != nil {
		return err
	}
	body, err := x.body()
	if err != nil {
		return err
	}
	var ask struct {
		NumPartitions     int32              `json:"numPartitions"`
		ReplicationFactor int16              `json:"replicationFactor"`
		ConfigEntries     map[string]*string `json:"configEntries"`
	}
	if len(body) > 0 {
		if err := json.Unmarshal(body, &ask); err != nil {
			return runtime.Errorf(runtime.CodeBadRequest, "Request body was not a description of a topic: %s", jsonFault(err))
		}
	}
	created, err := x.cfg.Topics.Create(x.r.Context(), topic)
	if err != nil {
		return err
	}
	if !created {
		return x.text(http.StatusOK, "Already existed")
	}
	x.w.Header().Set("Location", x.location("event", topic))
	if ask.NumPartitions > 1 {
		return x.text(http.StatusCreated, fmt.Sprintf("Created with 1 partition, not %d: all events of a topic of KAR are in one order", ask.NumPartitions))
	}
	return x.empty(http.StatusCreated)
}

// deleteTopic serves DELETE /event/{topic}; an unknown topic is deleted already.
func (x *exchange) deleteTopic() error {
	if err := runtime.CheckTopicName(x.names[1]); err != nil {
		return err
	}
	if _, err := x.cfg.Topics.Delete(x.r.Context(), x.names[1]); err != nil {
		return err
	}
	return x.text(http.StatusOK, "OK")
}

// publish serves POST /event/{topic}/publish: any bytes, kept with their
// content type and the attributes of a CloudEvent in binary mode.
func (x *exchange) publish() error {
	if err := runtime.CheckTopicName(x.names[1]); err != nil {
		return err
	}
	body, err := x.body()
	if err != nil {
		return err
	}
	if boot := x.caller.Boot; boot != "" {
		if _, live := x.mesh.HostOf(boot); !live {
			return runtime.Errorf(runtime.CodeHostLost, "the host that publishes was counted as lost")
		}
	}
	event := runtime.Event{Body: body, Header: runtime.Header{}}
	for name, values := range x.r.Header {
		if name == "Content-Type" || strings.HasPrefix(name, "Ce-") {
			event.Header[name] = values
		}
	}
	if err := x.mesh.Publish(x.r.Context(), x.caller, x.app(), x.names[1], event); err != nil {
		return err
	}
	return x.text(http.StatusOK, "OK")
}
