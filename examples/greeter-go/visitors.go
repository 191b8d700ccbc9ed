package main

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"net/http"
	"net/url"
)

// visitors keeps the state of Visitor actors with the sidecar; the process itself remembers nothing.
type visitors struct {
	sidecar string
}

// visited is what is stored for one visitor.
type visited struct {
	Visits int    `json:"visits"`
	Last   string `json:"last"` // mark of what was counted last
}

// count adds one visit and returns how many there are. The number and the mark
// are one write: a second attempt finds its own mark and counts nothing. The mark
// is that of request and step; all steps of a chain of tail calls share an id.
func (v *visitors) count(ctx context.Context, id, mark string) (int, error) {
	path := v.sidecar + "/kar/v1/actor/Visitor/" + url.PathEscape(id) + "/state"
	var now visited
	if err := v.ask(ctx, http.MethodGet, path, nil, &now); err != nil {
		return 0, err
	}
	if now.Last == mark && mark != "" {
		return now.Visits, nil
	}
	now.Visits++
	now.Last = mark
	return now.Visits, v.ask(ctx, http.MethodPost, path, map[string]any{"updates": now}, nil)
}

func (v *visitors) ask(ctx context.Context, method, path string, in, out any) error {
	body, err := json.Marshal(in)
	if err != nil {
		return err
	}
	req, err := http.NewRequestWithContext(ctx, method, path, bytes.NewReader(body))
	if err != nil {
		return err
	}
	req.Header.Set("Content-Type", "application/json")
	res, err := http.DefaultClient.Do(req)
	if err != nil {
		return err
	}
	defer res.Body.Close()
	if res.StatusCode >= 300 {
		return fmt.Errorf("%s %s: %s", method, path, res.Status)
	}
	if out == nil {
		return nil
	}
	return json.NewDecoder(res.Body).Decode(out)
}
