package kafka

import (
	"encoding/binary"
	"slices"

	"github.com/IBM/sarama"
)

// committedOf are the batches of a block that was fetched read committed, whose
// broker answers up to the first transaction that is open. Those of aborted
// transactions stay, without their records: they are no events, but have offsets.
func committedOf(block *sarama.FetchResponseBlock) []*sarama.RecordBatch {
	aborted := slices.Clone(block.AbortedTransactions)
	slices.SortFunc(aborted, func(a, b *sarama.AbortedTransaction) int { return int(a.FirstOffset - b.FirstOffset) })
	under := map[int64]bool{} // producers whose transaction at this place was aborted
	var all []*sarama.RecordBatch
	for _, set := range block.RecordsSet {
		b := set.RecordBatch
		if b == nil || b.PartialTrailingRecord {
			continue
		}
		for len(aborted) > 0 && aborted[0].FirstOffset <= b.LastOffset() {
			under[aborted[0].ProducerID] = true
			aborted = aborted[1:]
		}
		switch {
		case b.Control:
			if aborts(b) {
				delete(under, b.ProducerID)
			}
			b.Records = nil
		case b.IsTransactional && under[b.ProducerID]:
			b.Records = nil
		}
		all = append(all, b)
	}
	return all
}

// aborts tells the mark that ends an aborted transaction. The key of a mark is
// two numbers of 16 bits: its version, and its type, which is 0 for an abort.
func aborts(control *sarama.RecordBatch) bool {
	return len(control.Records) > 0 && len(control.Records[0].Key) >= 4 && binary.BigEndian.Uint16(control.Records[0].Key[2:]) == 0
}
