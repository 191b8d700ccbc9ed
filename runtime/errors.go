package runtime

import "fmt"

// A Code names an error for programs; docs/errors has a page for each.
type Code string

// The codes. HTTP status and hint live in one table, [Code.Status] and [Code.Hint].
const (
	CodeBadID            Code = "bad_id"
	CodeBadRequest       Code = "bad_request"
	CodeBadSession       Code = "bad_session"
	CodeBadReminder      Code = "bad_reminder"
	CodeBadSubscription  Code = "bad_subscription"
	CodeNotFound         Code = "not_found"
	CodeMethodNotAllowed Code = "method_not_allowed"
	CodeUnsupported      Code = "unsupported"
	CodeTooLarge         Code = "too_large"
	CodeResultTooLarge   Code = "result_too_large"
	CodeMailboxFull      Code = "mailbox_full"
	CodeMissingComponent Code = "missing_component"
	CodeActorBusy        Code = "actor_busy"
	CodeDeadline         Code = "deadline_exceeded"
	CodeCancelled        Code = "cancelled"
	CodePurged           Code = "purged"
	CodeDrained          Code = "drained"
	CodeCallerGone       Code = "caller_gone"
	CodeSuperseded       Code = "superseded"
	CodeHostLost         Code = "host_lost"
	CodeTooOld           Code = "too_old"
	CodeFuture           Code = "id_in_future"
	CodeOutcomeNotKept   Code = "outcome_not_kept"
	CodeUnknownRequest   Code = "unknown_request"
	CodeKeyReused        Code = "key_reused"
	CodeBadTailCall      Code = "bad_tail_call"
	CodeBadAnswer        Code = "bad_answer"
	CodeTopicMissing     Code = "topic_missing"
	CodeUnavailable      Code = "unavailable"
	CodeStoreAway        Code = "store_away"
	CodeUnknownOutcome   Code = "unknown_outcome"
	CodeShutdown         Code = "shutting_down"
	CodeInternal         Code = "internal"
	CodeAskAgain         Code = "ask_again"
	CodeNotOwner         Code = "not_owner"
	CodeStateLost        Code = "state_lost"
	CodeBodyLost         Code = "body_lost"
	CodeUnauthorized     Code = "unauthorized"
	CodeForbidden        Code = "forbidden"
	CodeClockSkew        Code = "clock_skew"

	// Codes of the process rather than of a request.
	CodeDamaged       Code = "damaged_data"
	CodeNewerFormat   Code = "newer_format"
	CodeForeign       Code = "foreign_data"
	CodeInUse         Code = "in_use"
	CodeReadOnly      Code = "not_writable"
	CodeDiskFull      Code = "disk_full"
	CodePortInUse     Code = "port_in_use"
	CodeNoCommand     Code = "command_not_found"
	CodeNotListening  Code = "app_not_listening"
	CodeNoGateway     Code = "no_gateway"
	CodeBadFlag       Code = "bad_flag"
	CodeBadConfig     Code = "bad_config"
	CodeGatewayTooOld Code = "gateway_version"

	CodeRedisUnreachable Code = "redis_unreachable"
	CodeRedisAuth        Code = "redis_auth"
	CodeRedisTLS         Code = "redis_tls"
	CodeRedisSettings    Code = "redis_settings"
	CodeRedisNoWrites    Code = "redis_no_writes"
	CodeKafkaUnreachable Code = "kafka_unreachable"
	CodeKafkaAuth        Code = "kafka_auth"
	CodeKafkaTLS         Code = "kafka_tls"
	CodeKafkaTooOld      Code = "kafka_too_old"
	CodeKafkaTopic       Code = "kafka_topic"
	CodeKafkaPermission  Code = "kafka_permission"
	CodeKafkaQuota       Code = "kafka_quota"
	CodeNoSecret         Code = "no_secret"
	CodeTLSMismatch      Code = "tls_mismatch"
	CodeTLSUntrusted     Code = "tls_untrusted"
)

type codeFacts struct {
	status int
	hint   string
}

func (c Code) facts() codeFacts {
	switch c {
	case CodeBadID:
		return codeFacts{400, "Use the id exactly as it was returned, 26 letters and digits."}
	case CodeBadRequest:
		return codeFacts{400, "Check the body and the parameters against the API document at /kar/openapi.json."}
	case CodeBadSession:
		return codeFacts{400, "Pass on the session string exactly as the app received it."}
	case CodeBadReminder:
		return codeFacts{400, `Send {"path":"/method","targetTime":"2030-01-31T12:00:00Z","period":"1m30s"}; the period must be positive and the year at most 9999.`}
	case CodeBadSubscription:
		return codeFacts{400, `Send {"path":"/method","topic":"name"}; all values are strings.`}
	case CodeNotFound:
		return codeFacts{404, "Check the name; `kar get` lists what exists."}
	case CodeMethodNotAllowed:
		return codeFacts{405, "See the Allow header for the methods of this path."}
	case CodeUnsupported:
		return codeFacts{501, "This is not served here; docs/errors/unsupported.md names what takes its place."}
	case CodeTooLarge:
		return codeFacts{413, "Send less; the limit on bodies is the gateway's (--body-limit)."}
	case CodeResultTooLarge:
		return codeFacts{500, "The method ran and completed; return less, or raise the gateway's body limit (--body-limit)."}
	case CodeMailboxFull:
		return codeFacts{429, "Too much work is waiting for this target; try again later."}
	case CodeMissingComponent:
		return codeFacts{408, "Start a component that offers it: kar run -app APP -service NAME (or -actors TYPE) -- COMMAND."}
	case CodeActorBusy:
		return codeFacts{408, "The actor was busy with other work for the whole limit; check for a deadlock or raise -actor_busy_timeout."}
	case CodeDeadline:
		return codeFacts{408, "If it was running it still goes on; ask for its outcome with its id."}
	case CodeCancelled:
		return codeFacts{410, "The request was withdrawn on request; send it anew if you want it."}
	case CodePurged:
		return codeFacts{410, "The app was purged; its earlier work is gone by intention."}
	case CodeDrained:
		return codeFacts{410, "The app was drained before this request started; send it anew."}
	case CodeCallerGone:
		return codeFacts{410, "The component that made this call has ended and asked for its calls to be withdrawn (-cancel)."}
	case CodeSuperseded:
		return codeFacts{410, "This attempt has been replaced by a newer one; whatever it still does is ignored."}
	case CodeHostLost:
		return codeFacts{410, "This host was counted as lost; restart the component."}
	case CodeTooOld:
		return codeFacts{410, "The id is older than the id window; whether the request ran is no longer known."}
	case CodeFuture:
		return codeFacts{400, "The id was made by a clock more than 2 minutes ahead; set the clock."}
	case CodeOutcomeNotKept:
		return codeFacts{410, "The request completed; outcomes are kept only for promises and for requests with an Idempotency-Key."}
	case CodeUnknownRequest:
		return codeFacts{404, "No request of this app has this id, or it has been forgotten."}
	case CodeKeyReused:
		return codeFacts{422, "Use a new Idempotency-Key for a different request."}
	case CodeBadTailCall:
		return codeFacts{500, "A tail call names actorType and actorId, or serviceName, and a path that starts with a slash; payload is a string."}
	case CodeBadAnswer:
		return codeFacts{502, "The component did not give a complete HTTP answer."}
	case CodeTopicMissing:
		return codeFacts{400, "Create the topic first: PUT /kar/v1/event/TOPIC."}
	case CodeUnavailable:
		return codeFacts{503, "Nothing was accepted; try again."}
	case CodeStoreAway:
		return codeFacts{503, "The state store does not answer; nothing was changed. Try again."}
	case CodeUnknownOutcome:
		return codeFacts{504, "The request may have been accepted; ask for its outcome with its id."}
	case CodeShutdown:
		return codeFacts{503, "The gateway is stopping; nothing was accepted. Try again."}
	case CodeAskAgain:
		return codeFacts{503, "Ask again, under the same Idempotency-Key or id: whether it was accepted is not known."}
	case CodeNotOwner:
		return codeFacts{503, "Nothing was accepted; try again."}
	case CodeStateLost:
		return codeFacts{500, "The store lost state that the log no longer holds. Restore the store from a backup; see docs/operations.md."}
	case CodeBodyLost:
		return codeFacts{500, "Send the request anew, and find out who deletes records of the mesh's topic; see docs/operations.md."}
	case CodeUnauthorized:
		return codeFacts{401, "Set KAR_TOKEN to what `kar token --app APP` prints where the mesh's secret is; docs/security.md."}
	case CodeForbidden:
		return codeFacts{403, "Use a token of that app, or an operator's for what concerns the whole gateway; docs/security.md."}
	case CodeClockSkew:
		return codeFacts{403, "Set the clocks of all gateways by NTP; they may differ by 2 minutes."}
	case CodeDamaged:
		return codeFacts{500, "Restore the folder from a backup, or move it away to start empty; nothing was changed."}
	case CodeNewerFormat:
		return codeFacts{500, "Use the version of kar that wrote the folder, or a newer one."}
	case CodeForeign:
		return codeFacts{500, "Point KAR at the folder, topic or store of this mesh."}
	case CodeInUse:
		return codeFacts{500, "Another gateway has this folder open; stop it (kar gateway stop) or use another folder."}
	case CodeReadOnly:
		return codeFacts{500, "Make the folder writable for this user, or set KAR_STATE_DIR to another one."}
	case CodeDiskFull:
		return codeFacts{500, "Free some space and start again; everything that was acknowledged is on disk."}
	case CodePortInUse:
		return codeFacts{500, "Choose another port, or leave the flag out to have a free one picked."}
	case CodeNoCommand:
		return codeFacts{500, "Check the spelling and PATH of the command after --."}
	case CodeNotListening:
		return codeFacts{502, "Let the application listen on 127.0.0.1:$KAR_APP_PORT."}
	case CodeNoGateway:
		return codeFacts{503, "See `kar gateway logs`; start one in the foreground with `kar gateway`."}
	case CodeBadFlag:
		return codeFacts{400, "See `kar help COMMAND`."}
	case CodeBadConfig:
		return codeFacts{400, "See docs/configuration.md for names, values and their order."}
	case CodeGatewayTooOld:
		return codeFacts{500, "Stop the running gateway when it is idle: kar gateway stop."}
	case CodeKafkaUnreachable:
		return codeFacts{503, "Check KAFKA_BROKERS, and that Kafka runs and this machine may connect to the addresses that its brokers advertise."}
	case CodeKafkaAuth:
		return codeFacts{500, "Set KAFKA_USERNAME, KAFKA_PASSWORD and the SASL mechanism to what the listener at this address asks for."}
	case CodeKafkaTLS:
		return codeFacts{500, "Set KAFKA_ENABLE_TLS and the certificate of Kafka's authority to what the listener at this address uses."}
	case CodeKafkaTooOld:
		return codeFacts{500, "Use Kafka 2.8 or newer."}
	case CodeKafkaTopic:
		return codeFacts{500, "Set the topic right as the message says; nothing was written."}
	case CodeKafkaPermission:
		return codeFacts{500, "Let the Kafka user create, describe, read, write and delete the mesh's topics (names that begin with _kar.) and those for events."}
	case CodeKafkaQuota:
		return codeFacts{503, "Raise the quota for this client id or user in Kafka, or take it away."}
	case CodeRedisUnreachable:
		return codeFacts{503, "Check REDIS_HOST and REDIS_PORT (or the addresses of the sentinels or the cluster), and that Redis runs and this machine may connect to it."}
	case CodeRedisAuth:
		return codeFacts{500, "Check REDIS_USER and REDIS_PASSWORD, and that the user may read and write keys that start with kar: and run scripts."}
	case CodeRedisTLS:
		return codeFacts{500, "Make REDIS_ENABLE_TLS match the server, and REDIS_CA the authority that signed its certificate."}
	case CodeRedisSettings:
		return codeFacts{500, "Change the setting of Redis that the message names; nothing was written."}
	case CodeRedisNoWrites:
		return codeFacts{503, "Give Redis room (memory, or disk for its snapshots) or its replicas back, as the message says; what waits is then written."}
	case CodeNoSecret:
		return codeFacts{400, "Set KAR_MESH_SECRET to 16 random bytes or more, the same on all gateways; docs/security.md."}
	case CodeTLSMismatch:
		return codeFacts{500, "Write https:// in KAR_GATEWAY for a gateway with TLS, http:// for one without."}
	case CodeTLSUntrusted:
		return codeFacts{500, "Set KAR_CA to the certificates of who signed the gateway's, and use a name that its certificate has."}
	}
	return codeFacts{500, "This is a defect of KAR; please report it with the gateway's log."}
}

// Status is the HTTP status that goes with the code.
func (c Code) Status() int { return c.facts().status }

// Hint is one sentence that says what the user can do.
func (c Code) Hint() string { return c.facts().hint }

// An Error is what was tried and what it means, in one sentence, with its code.
type Error struct {
	Code   Code
	Detail string
	// ID is the request that the error is about, when there is one.
	ID ID
}

// Errorf makes an Error.
func Errorf(code Code, format string, args ...any) *Error {
	return &Error{Code: code, Detail: fmt.Sprintf(format, args...)}
}

func (e *Error) Error() string { return string(e.Code) + ": " + e.Detail }

// Outcome is the error as the end of a request.
func (e *Error) Outcome() *Outcome {
	return &Outcome{
		Status: e.Code.Status(),
		Header: Header{"Content-Type": {"text/plain; charset=utf-8"}},
		Body:   []byte(e.Detail + "\n"),
		Code:   e.Code,
	}
}
