package runtime

import "testing"

func TestReservedFields(t *testing.T) {
	for name, want := range map[string]bool{
		"Kar-Request-Id": true, "Kar_Request_Id": true, "kar_attempt": true, "KAR-X": true, "Kar": false, "Karma": false, "X-Kar-A": false, "": false,
	} {
		if ReservedField(name) != want {
			t.Errorf("%q: %v", name, !want)
		}
	}
}

// TestCodesOfHosts: a host cannot pose as the gateway.
func TestCodesOfHosts(t *testing.T) {
	for code, want := range map[Code]Code{
		"": "", CodeResultTooLarge: CodeResultTooLarge, CodeBadRequest: CodeBadRequest,
		CodeUnauthorized: CodeBadAnswer, "forbidden\r\nX": CodeBadAnswer, CodePurged: CodeBadAnswer,
	} {
		if o := (&Outcome{Status: 400, Code: code}).ofHost(); o.Code != want {
			t.Errorf("%q became %q", code, o.Code)
		}
	}
}
