#!/bin/sh
# Shows a call that survives the death of the process that runs it.
#   sh examples/greeter-go/demo.sh PATH-OF-KAR
set -eu

kar=${1:-kar}
case $kar in */*) kar=$(cd "$(dirname "$kar")" && pwd)/$(basename "$kar") ;; esac
here=$(cd "$(dirname "$0")" && pwd)
dir=$(mktemp -d)
export KAR_STATE_DIR="$dir/state"
loop=
finish() {
	touch "$dir/enough"
	pkill_children
	[ -z "$loop" ] || wait "$loop" 2>/dev/null || true
	"$kar" gateway stop >/dev/null 2>&1 || true
	rm -rf "$dir"
}
pkill_children() { # the component ends by a signal to its own kar run
	[ ! -s "$dir/run.pid" ] || kill "$(cat "$dir/run.pid")" 2>/dev/null || true
}
trap finish EXIT
trap 'exit 130' INT TERM

(cd "$here" && go build -o "$dir/greeter" .)
cd "$dir"

# Somebody who starts the component again when it ends, as any supervisor would.
(
	while [ ! -e enough ]; do
		"$kar" run -app demo -service greeter -actors Visitor -- "$dir/greeter" >>component.log 2>&1 &
		echo $! >run.pid
		wait $! || true
	done
) &
loop=$!

echo "> kar rest -app demo post greeter helloJson '{\"name\":\"Alice\"}'"
"$kar" rest -app demo post greeter helloJson '{"name":"Alice"}'
echo
echo "> kar invoke -app demo Visitor alice slow 2        (a method that takes two seconds)"
"$kar" invoke -app demo Visitor alice slow 2 >result 2>&1 &
call=$!
until grep -q 'attempt 1 starts' component.log 2>/dev/null; do sleep 0.05; done
pid=$(sed -n 's/.*attempt 1 starts in process \([0-9]*\).*/\1/p' component.log)
sleep 0.5
echo "> kill -9 $pid                                   (in the middle of it)"
kill -9 "$pid"
wait $call
echo
echo "what the component printed:"
grep attempt component.log | sed 's/^/  /'
echo "what the caller got:"
sed 's/^/  /' result
echo
echo "One call, two attempts, one visit counted, one result."
