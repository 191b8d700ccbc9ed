package tunnel

import "github.com/karmesh/kar/runtime"

// decode reads one message: its kind and fields. Bodies alias b. A kind that
// is not known gives nil without an error, so that it can be skipped.
func decode(b []byte) (Message, error) {
	if len(b) == 0 {
		return nil, errMalformed
	}
	f := &fields{b: b[1:]}
	m := decodeKind(b[0], f)
	if f.err != nil {
		return nil, f.err
	}
	return m, nil
}

func decodeKind(kind byte, f *fields) Message {
	switch kind {
	case kindInvoke:
		return decodeInvoke(f)
	case kindAnswer:
		return decodeAnswer(f)
	case kindRequest:
		return decodeRequest(f)
	case kindResponse:
		return decodeResponse(f)
	case kindTaken:
		m := &runtime.Taken{}
		each(f, func(x field) {
			if x.num == 1 {
				m.Attempts = append(m.Attempts, attempt(f, x.data))
			}
		})
		return m
	case kindGot:
		m := &Got{}
		each(f, func(x field) {
			if x.num == 1 {
				m.IDs = append(m.IDs, f.id(x.data))
			}
		})
		return m
	case kindCancel:
		m := &Cancel{}
		each(f, func(x field) {
			if x.num == 1 {
				m.Seq = x.v
			}
		})
		return m
	case kindBeat:
		m := &Beat{}
		each(f, func(x field) {
			if x.num == 1 {
				m.Seq = x.v
			}
		})
		return m
	case kindBeatAnswer:
		m := &BeatAnswer{}
		each(f, func(x field) {
			switch x.num {
			case 1:
				m.Seq = x.v
			case 2:
				m.Kept = x.v != 0
			case 3:
				m.Silent = append(m.Silent, uint16(x.v-1))
			case 4:
				m.Gateways = append(m.Gateways, string(x.data))
			case 5:
				m.WallMillis = int64(x.v)
			}
		})
		return m
	case kindDeactivate:
		m := deactivate(f)
		return &m
	case kindDeactivated:
		return &Deactivated{deactivate(f)}
	case kindJoinAsk:
		m := &runtime.JoinAsk{}
		each(f, func(x field) {
			if x.num == 1 {
				m.Epochs = append(m.Epochs, epoch(f, x.data))
			}
		})
		return m
	case kindTermLost:
		m := &runtime.TermLost{}
		each(f, func(x field) {
			switch x.num {
			case 1:
				m.Epoch = x.v
			case 2:
				m.Seen = term(f, x.data)
				m.Partition = m.Seen.Partition
			}
		})
		return m
	case kindVerdict:
		m := &runtime.Verdict{}
		each(f, func(x field) {
			if x.num == 1 {
				m.Reason = string(x.data)
			}
		})
		return m
	case kindExit:
		m := &Exit{}
		each(f, func(x field) {
			if x.num == 1 {
				m.Reason = string(x.data)
			}
		})
		return m
	case kindChanged:
		m := &Changed{}
		each(f, func(x field) {
			switch x.num {
			case 1:
				m.Draining = x.v != 0
			case 2:
				m.Frozen = x.v != 0
			}
		})
		return m
	case kindUp:
		each(f, func(field) {})
		return &Up{}
	}
	return decodeHandshake(kind, f)
}

func decodeHandshake(kind byte, f *fields) Message {
	switch kind {
	case kindWelcome:
		m := &Welcome{}
		each(f, func(x field) {
			switch x.num {
			case 1:
				m.Protocol = x.v
			case 2:
				m.Version = string(x.data)
			case 3:
				m.Node = string(x.data)
			case 4:
				m.Partitions = int(x.v)
			case 5:
				m.LeaseMillis = int64(x.v)
			case 6:
				m.BodyLimit = int(x.v)
			case 7:
				m.Epochs = append(m.Epochs, epoch(f, x.data))
			case 8:
				m.Gateways = append(m.Gateways, string(x.data))
			case 9:
				m.Mesh = string(x.data)
			case 10:
				m.WallMillis = int64(x.v)
			}
		})
		return m
	case kindHello:
		m := &Hello{}
		each(f, func(x field) {
			switch x.num {
			case 1:
				m.Protocol = x.v
			case 2:
				m.Version = string(x.data)
			case 3:
				m.Token = string(x.data)
			case 4:
				m.Info = info(f, x.data)
			}
		})
		return m
	case kindJoined:
		return decodeJoined(f)
	case kindPartJoined:
		return &PartJoined{*decodeJoined(f)}
	case kindRefused:
		m := &Refused{}
		each(f, func(x field) {
			switch x.num {
			case 1:
				m.Code = runtime.Code(x.data)
			case 2:
				m.Detail = string(x.data)
			}
		})
		return m
	}
	return nil
}

func decodeJoined(f *fields) *Joined {
	m := &Joined{}
	each(f, func(x field) {
		switch x.num {
		case 1:
			m.Running = append(m.Running, attempt(f, x.data))
		case 2:
			m.Instances = append(m.Instances, actor(f, x.data))
		case 3:
			m.Epochs = append(m.Epochs, epoch(f, x.data))
		case 4:
			m.More = x.v != 0
		case 5:
			m.Later = append(m.Later, term(f, x.data))
		}
	})
	return m
}

func each(f *fields, visit func(field)) {
	for x, ok := f.next(); ok; x, ok = f.next() {
		visit(x)
	}
}

func decodeInvoke(f *fields) *runtime.Invoke {
	m := &runtime.Invoke{}
	for x, ok := f.next(); ok; x, ok = f.next() {
		switch x.num {
		case 1:
			m.Attempt = attempt(f, x.data)
		case 2:
			m.Epoch = x.v
		case 3:
			m.Target.App = string(x.data)
		case 4:
			m.Target.Type = string(x.data)
		case 5:
			m.Target.ID = string(x.data)
		case 6:
			m.Target.Service = string(x.data)
		case 7:
			m.Method = known(x.data)
		case 8:
			m.Path = string(x.data)
		case 9:
			m.Header = f.header(m.Header, x.data)
		case 10:
			m.Session = string(x.data)
		case 11:
			m.Limit = int64(x.v)
		case 12:
			m.Body = x.data
		}
	}
	m.Header = f.message(m.Header)
	return m
}

func decodeAnswer(f *fields) *Answer {
	m := &Answer{}
	var o runtime.Outcome
	for x, ok := f.next(); ok; x, ok = f.next() {
		switch x.num {
		case 1:
			m.Attempt = attempt(f, x.data)
		case 2:
			m.ActivationFailed = x.v != 0
		case 3:
			m.Outcome = &o
		case 4:
			o.Status = int(x.v)
		case 5:
			o.Code = runtime.Code(x.data)
		case 6:
			o.Header = f.header(o.Header, x.data)
		case 7:
			o.Body = x.data
		}
	}
	o.Header = f.message(o.Header)
	return m
}

func decodeRequest(f *fields) *Request {
	m := &Request{}
	for x, ok := f.next(); ok; x, ok = f.next() {
		switch x.num {
		case 1:
			m.Seq = x.v
		case 2:
			m.ID = f.id(x.data)
		case 3:
			m.Method = known(x.data)
		case 4:
			m.Path = string(x.data)
		case 5:
			m.Header = f.header(m.Header, x.data)
		case 6:
			m.Body = x.data
		}
	}
	m.Header = f.message(m.Header)
	return m
}

func decodeResponse(f *fields) *Response {
	m := &Response{}
	for x, ok := f.next(); ok; x, ok = f.next() {
		switch x.num {
		case 1:
			m.Seq = x.v
		case 2:
			m.Status = int(x.v)
		case 3:
			m.Header = f.header(m.Header, x.data)
		case 4:
			m.Body = x.data
		}
	}
	m.Header = f.message(m.Header)
	return m
}
