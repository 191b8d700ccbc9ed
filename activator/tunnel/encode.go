package tunnel

import (
	"fmt"

	"github.com/karmesh/kar/runtime"
)

// The kinds on the wire. Numbers are never reused.
const (
	kindFirstPiece  = 1
	kindPiece       = 2
	kindWelcome     = 3
	kindHello       = 4
	kindJoined      = 5
	kindUp          = 6
	kindRefused     = 7
	kindAnswer      = 8
	kindDeactivated = 9
	kindBeat        = 10
	kindBeatAnswer  = 11
	kindExit        = 12
	kindChanged     = 13
	kindRequest     = 14
	kindResponse    = 15
	kindGot         = 16
	kindCancel      = 17
	kindInvoke      = 18
	kindDeactivate  = 19
	kindTaken       = 20
	kindVerdict     = 21
	kindJoinAsk     = 22
	kindPartJoined  = 23
	kindTermLost    = 24
)

// encode appends the kind and all of m but its body to b. The body is the last
// field; its number and length are part of what is appended.
func encode(b []byte, m Message) (head, body []byte) {
	switch m := m.(type) {
	case *runtime.Invoke:
		return encodeInvoke(append(b, kindInvoke), m)
	case *Answer:
		return encodeAnswer(append(b, kindAnswer), &m.Answer)
	case *Request:
		b = appendUint(append(b, kindRequest), 1, m.Seq)
		b = appendID(b, 2, m.ID)
		b = appendString(b, 3, m.Method)
		b = appendString(b, 4, m.Path)
		b = appendHeader(b, 5, m.Header)
		return withBody(b, 6, m.Body)
	case *Response:
		b = appendUint(append(b, kindResponse), 1, m.Seq)
		b = appendUint(b, 2, uint64(m.Status))
		b = appendHeader(b, 3, m.Header)
		return withBody(b, 4, m.Body)
	case *runtime.Taken:
		b = append(b, kindTaken)
		for i := range m.Attempts {
			b = appendAttempt(b, 1, &m.Attempts[i])
		}
	case *Got:
		b = append(b, kindGot)
		for _, id := range m.IDs {
			b = appendID(b, 1, id)
		}
	case *Cancel:
		b = appendUint(append(b, kindCancel), 1, m.Seq)
	case *Beat:
		b = appendUint(append(b, kindBeat), 1, m.Seq)
	case *BeatAnswer:
		b = appendUint(append(b, kindBeatAnswer), 1, m.Seq)
		b = appendBool(b, 2, m.Kept)
		for _, p := range m.Silent {
			b = appendUint(b, 3, uint64(p)+1) // a zero would be left out
		}
		for _, g := range m.Gateways {
			b = append(appendLength(b, 4, len(g)), g...)
		}
		b = appendUint(b, 5, uint64(m.WallMillis))
	case *runtime.Deactivate:
		b = appendDeactivate(append(b, kindDeactivate), m)
	case *Deactivated:
		b = appendDeactivate(append(b, kindDeactivated), &m.Deactivate)
	case *runtime.JoinAsk:
		b = appendEpochs(append(b, kindJoinAsk), 1, m.Epochs)
	case *runtime.TermLost:
		b = appendUint(append(b, kindTermLost), 1, m.Epoch)
		b = appendTerms(b, 2, []runtime.TermSeen{m.Seen})
	case *runtime.Verdict:
		b = appendString(append(b, kindVerdict), 1, m.Reason)
	case *Exit:
		b = appendString(append(b, kindExit), 1, m.Reason)
	case *Changed:
		b = appendBool(append(b, kindChanged), 1, m.Draining)
		b = appendBool(b, 2, m.Frozen)
	case *Up:
		b = append(b, kindUp)
	default:
		return encodeHandshake(b, m)
	}
	return b, nil
}

func encodeHandshake(b []byte, m Message) (head, body []byte) {
	switch m := m.(type) {
	case *Welcome:
		b = appendUint(append(b, kindWelcome), 1, m.Protocol)
		b = appendString(b, 2, m.Version)
		b = appendString(b, 3, m.Node)
		b = appendUint(b, 4, uint64(m.Partitions))
		b = appendUint(b, 5, uint64(m.LeaseMillis))
		b = appendUint(b, 6, uint64(m.BodyLimit))
		b = appendEpochs(b, 7, m.Epochs)
		for _, g := range m.Gateways {
			b = append(appendLength(b, 8, len(g)), g...)
		}
		b = appendString(b, 9, m.Mesh)
		b = appendUint(b, 10, uint64(m.WallMillis))
	case *Hello:
		b = appendUint(append(b, kindHello), 1, m.Protocol)
		b = appendString(b, 2, m.Version)
		b = appendString(b, 3, m.Token)
		b = appendNested(b, 4, func(b []byte) []byte { return appendInfo(b, &m.Info) })
	case *Joined:
		b = appendJoined(append(b, kindJoined), m)
	case *PartJoined:
		b = appendJoined(append(b, kindPartJoined), &m.Joined)
	case *Refused:
		b = appendString(append(b, kindRefused), 1, string(m.Code))
		b = appendString(b, 2, m.Detail)
	default:
		// A new message type without its case here cannot work at all, so the
		// first test of it ends here.
		panic(fmt.Sprintf("tunnel: no encoding for %T", m))
	}
	return b, nil
}

func appendJoined(b []byte, m *Joined) []byte {
	for i := range m.Running {
		b = appendAttempt(b, 1, &m.Running[i])
	}
	for _, a := range m.Instances {
		b = appendActor(b, 2, a)
	}
	b = appendEpochs(b, 3, m.Epochs)
	b = appendBool(b, 4, m.More)
	return appendTerms(b, 5, m.Later)
}

func appendTerms(b []byte, num int, list []runtime.TermSeen) []byte {
	for _, t := range list {
		b = appendNested(b, num, func(b []byte) []byte {
			b = appendUint(b, 1, uint64(t.Partition))
			b = appendUint(b, 2, t.Epoch)
			return appendUint(b, 3, t.Mark)
		})
	}
	return b
}

func withBody(b []byte, num int, body []byte) ([]byte, []byte) {
	if len(body) == 0 {
		return b, nil
	}
	return appendLength(b, num, len(body)), body
}

func encodeInvoke(b []byte, m *runtime.Invoke) (head, body []byte) {
	b = appendAttempt(b, 1, &m.Attempt)
	b = appendUint(b, 2, m.Epoch)
	b = appendString(b, 3, m.Target.App)
	b = appendString(b, 4, m.Target.Type)
	b = appendString(b, 5, m.Target.ID)
	b = appendString(b, 6, m.Target.Service)
	b = appendString(b, 7, m.Method)
	b = appendString(b, 8, m.Path)
	b = appendHeader(b, 9, m.Header)
	b = appendString(b, 10, m.Session)
	b = appendUint(b, 11, uint64(m.Limit))
	return withBody(b, 12, m.Body)
}

func encodeAnswer(b []byte, a *runtime.Answer) (head, body []byte) {
	b = appendAttempt(b, 1, &a.Attempt)
	b = appendBool(b, 2, a.ActivationFailed)
	o := a.Outcome
	if o == nil {
		return b, nil
	}
	b = appendBool(b, 3, true)
	b = appendUint(b, 4, uint64(o.Status))
	b = appendString(b, 5, string(o.Code))
	b = appendHeader(b, 6, o.Header)
	return withBody(b, 7, o.Body)
}

func appendAttempt(b []byte, num int, a *runtime.Attempt) []byte {
	return appendNested(b, num, func(b []byte) []byte {
		b = appendID(b, 1, a.ID)
		b = appendUint(b, 2, uint64(a.Step))
		b = appendUint(b, 3, uint64(a.Number))
		return appendUint(b, 4, uint64(a.Partition))
	})
}

func appendActor(b []byte, num int, a runtime.Actor) []byte {
	return appendNested(b, num, func(b []byte) []byte {
		b = appendString(b, 1, a.App)
		b = appendString(b, 2, a.Type)
		return appendString(b, 3, a.ID)
	})
}

func appendDeactivate(b []byte, m *runtime.Deactivate) []byte {
	b = appendActor(b, 1, m.Actor)
	b = appendUint(b, 2, uint64(m.Partition))
	b = appendUint(b, 3, m.Epoch)
	return appendUint(b, 4, m.Asking)
}

func appendEpochs(b []byte, num int, list []runtime.PartitionEpoch) []byte {
	for _, e := range list {
		b = appendNested(b, num, func(b []byte) []byte {
			b = appendUint(b, 1, uint64(e.Partition))
			return appendUint(b, 2, e.Epoch)
		})
	}
	return b
}

func appendInfo(b []byte, i *runtime.HostInfo) []byte {
	b = appendString(b, 1, i.Boot)
	b = appendString(b, 2, i.App)
	b = appendString(b, 3, i.Name)
	b = appendString(b, 4, i.Service)
	for _, t := range i.Actors {
		b = append(appendLength(b, 5, len(t)), t...)
	}
	b = appendUint(b, 6, uint64(i.Port))
	b = appendUint(b, 7, uint64(i.Idle))
	b = appendUint(b, 8, uint64(i.Grace))
	b = appendString(b, 9, i.URL)
	b = appendBool(b, 10, i.Draining)
	b = appendBool(b, 11, i.Frozen)
	return appendUint(b, 12, i.Attachment)
}
