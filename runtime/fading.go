package runtime

// A fading holds what is forgotten an id window after it came, oldest first, so
// that nobody has to go through all of it to find what is old.
type fading[T any] struct{ es []faded[T] }

type faded[T any] struct {
	x  T
	at int64 // monotonic ms
}

// fadeBatch is how much one look forgets.
const fadeBatch = 5000

func (f *fading[T]) add(x T, at int64) { f.es = append(f.es, faded[T]{x, at}) }

// forget hands over what came before that time. What has come again since then
// is in the list once more.
func (f *fading[T]) forget(before int64, forget func(x T, at int64)) {
	for range fadeBatch {
		if len(f.es) == 0 || f.es[0].at >= before {
			return
		}
		e := f.es[0]
		f.es[0] = faded[T]{}
		f.es = f.es[1:]
		forget(e.x, e.at)
	}
}
