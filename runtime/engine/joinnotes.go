package engine

import "github.com/karmesh/kar/runtime"

// joinNoteBytes is how much of a join goes in one note to another gateway: far
// below the largest frame, which a host's finished answers alone may fill.
const joinNoteBytes = 8 << 20

// joinNotes cuts a join with the partitions of one gateway into notes. What a host
// says of one partition stays in one: what is not in it counts as ended. Where the
// answers of one are too many, their attempts count as running, and the answers
// follow.
func joinNotes(epochs []runtime.PartitionEpoch, parts map[uint16]*runtime.JoinAnswer) (notes []*HostUpNote, rest []runtime.Answer) {
	size := 0
	for _, e := range epochs {
		j := parts[e.Partition]
		if j == nil {
			j = &runtime.JoinAnswer{}
		}
		n := joinBytes(j)
		var later []runtime.Answer
		for last := len(j.Finished); n > joinNoteBytes && last > 0; {
			last--
			n -= answerBytes(&j.Finished[last]) - attemptBytes
			later = j.Finished[last:]
		}
		if len(notes) == 0 || size+n > joinNoteBytes {
			notes = append(notes, &HostUpNote{})
			size = 0
		}
		size += n
		up := notes[len(notes)-1]
		up.Epochs = append(up.Epochs, e)
		up.Join.Running = append(up.Join.Running, j.Running...)
		for i := range later {
			up.Join.Running = append(up.Join.Running, later[i].Attempt)
		}
		up.Join.Finished = append(up.Join.Finished, j.Finished[:len(j.Finished)-len(later)]...)
		up.Join.Instances = append(up.Join.Instances, j.Instances...)
		rest = append(rest, later...)
	}
	return notes, rest
}

// attemptBytes is about what an attempt, or the rest of an answer or an instance, takes.
const attemptBytes = 48

func joinBytes(j *runtime.JoinAnswer) int {
	n := attemptBytes * (1 + len(j.Running) + len(j.Instances))
	for i := range j.Finished {
		n += answerBytes(&j.Finished[i])
	}
	for _, a := range j.Instances {
		n += len(a.App) + len(a.Type) + len(a.ID)
	}
	return n
}

func answerBytes(a *runtime.Answer) int {
	n := 2 * attemptBytes
	if o := a.Outcome; o != nil {
		n += len(o.Body) + len(o.Code)
		for name, values := range o.Header {
			for _, v := range values {
				n += len(name) + len(v) + 12
			}
		}
	}
	return n
}
