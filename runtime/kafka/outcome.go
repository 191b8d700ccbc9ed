package kafka

import "github.com/IBM/sarama"

// neverAppended tells whether a broker that answers a produce request with this
// code has certainly not appended the batch, nor will. The checks behind these
// codes come before the append; all other codes may come after it, or may be
// the answer to a batch that another broker keeps: NOT_LEADER_OR_FOLLOWER and
// UNKNOWN_TOPIC_OR_PARTITION, for one, are also said when leadership changes
// while the leader waits for its followers.
func neverAppended(code sarama.KError) bool {
	switch code {
	case sarama.ErrInvalidMessage, // CORRUPT_MESSAGE: the checksum did not fit
		sarama.ErrMessageSizeTooLarge,         // larger than max.message.bytes
		sarama.ErrMessageSetSizeTooLarge,      // larger than a segment
		sarama.ErrNotEnoughReplicas,           // fewer in sync than min.insync.replicas, seen before the append
		sarama.ErrInvalidRequiredAcks,         //
		sarama.ErrInvalidTopic,                //
		sarama.ErrInvalidTimestamp,            //
		sarama.ErrInvalidRecord,               // a record without key on a compacted topic, and such
		sarama.ErrTopicAuthorizationFailed,    //
		sarama.ErrClusterAuthorizationFailed,  //
		sarama.ErrUnsupportedVersion,          //
		sarama.ErrInvalidRequest,              //
		sarama.ErrUnsupportedForMessageFormat, //
		sarama.ErrUnsupportedCompressionType,  //
		sarama.ErrPolicyViolation:
		return true
	}
	return false
}

// misplaced tells whether the code says that somebody else leads now.
func misplaced(code sarama.KError) bool {
	switch code {
	case sarama.ErrNotLeaderForPartition, sarama.ErrUnknownTopicOrPartition, sarama.ErrLeaderNotAvailable,
		sarama.ErrReplicaNotAvailable, sarama.ErrFencedLeaderEpoch, sarama.ErrUnknownLeaderEpoch, sarama.ErrKafkaStorageError,
		sarama.ErrBrokerNotAvailable, sarama.ErrOffsetNotAvailable:
		return true
	}
	return false
}
