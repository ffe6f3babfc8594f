#!/usr/bin/env bash
# Swaps a policy while it works: 20,000 videos go through one job, whose plugin
# is video-clear, then video-archive, then video-clear …, and none is lost.
# Needs bash, the coreutils and sweepd. Exit code 0: everything added up.
set -euo pipefail
cd -- "$(dirname -- "$0")"

readonly ROUNDS=10 SHARE=2000
readonly TOTAL=$((ROUNDS * SHARE)) JOB=video-clear
readonly POLICIES=(video-clear video-archive)

sweepd=${SWEEPD_BIN:-../../target/release/sweepd}
# sweepd itself would take it for a key of its configuration.
unset SWEEPD_BIN
export SWEEPD_CONFIG=sweepd.toml

temp='' host='' feeder=''

fail() {
    printf 'swap.sh: %s\n' "$*" >&2
    exit 1
}

# Leaves nothing running, however the script ends.
finish() {
    local code=$?
    trap - EXIT
    trap '' INT TERM HUP
    exec 3>&-
    for process in $feeder $host; do
        kill -TERM "$process" 2>/dev/null || true
        wait "$process" 2>/dev/null || true
    done
    if ((code != 0)) && [[ -s $temp/log ]]; then
        printf 'the end of the log of the host:\n' >&2
        tail -n 10 "$temp/log" >&2
    fi
    [[ -z $temp ]] || rm -rf -- "$temp"
    exit "$code"
}
trap finish EXIT
trap 'exit 129' HUP
trap 'exit 130' INT
trap 'exit 143' TERM

check_needs() {
    [[ -x $sweepd ]] || fail "there is no $sweepd; build it: cargo build --release -p sweepd (or name it in SWEEPD_BIN)"
    local policy
    for policy in "${POLICIES[@]}"; do
        [[ -f ../../target/plugins/$policy.wasm ]] ||
            fail "there is no target/plugins/$policy.wasm; build it: cargo xtask plugins"
    done
    if [[ -e videos && ! -e videos/.made-by-swap.sh ]]; then
        fail "$PWD/videos is not this script's: move it away, it would be emptied"
    fi
    if [[ $("$sweepd" status --json 2>/dev/null) == *'"running": true'* ]]; then
        fail "a host listens at the address of sweepd.toml already: stop it first"
    fi
}

# As an administrator would: a complete file takes the name in one step.
install_policy() {
    cp -- "../../target/plugins/$1.wasm" plugins/policy.new
    mv -- plugins/policy.new plugins/policy.wasm
}

digest_of() {
    local sum
    sum=$(sha256sum "../../target/plugins/$1.wasm")
    printf '%s' "${sum%% *}"
}

# A number or text of the job, as the host says it; of its generation, where a
# second argument says so: what is being compiled has a digest, too.
status() {
    local json pattern="\"$1\": \"?([0-9a-f]+)"
    [[ -z ${2:-} ]] || pattern="\"$2\": [{][^}]*$pattern"
    json=$("$sweepd" status --json 2>>"$temp/log") || fail "sweepd status failed"
    [[ $json == *'"running": true'* ]] || fail "the host does not answer any more"
    [[ $json =~ $pattern ]] || { printf 'none'; return; }
    printf '%s' "${BASH_REMATCH[1]}"
}

# Waits until a command succeeds, two minutes at most.
await() {
    local what=$1 end=$((SECONDS + 120))
    shift
    until "$@"; do
        kill -0 "$host" 2>/dev/null || fail "the host ended before $what"
        ((SECONDS < end)) || fail "waited in vain until $what"
        sleep 0.05
    done
}

serves() { [[ $(status digest generation) == "$1" ]]; }
listens() { [[ $(<"$temp/out") == *'listens on http://'*$'\n'* ]]; }
fewer_than() { (($(ls -U videos | wc -l) < $1)); }
drained() { [[ $(status pending) == 0 && $(status running) == 0 ]]; }

start_host() {
    : >"$temp/out" # it is read before the host has written to it
    "$sweepd" run --log-format human >"$temp/out" 2>"$temp/log" 3>&- &
    host=$!
    await "it listens" listens
    [[ $(<"$temp/out") =~ listens\ on\ http://([0-9.]+):([0-9]+) ]]
    address=${BASH_REMATCH[1]} port=${BASH_REMATCH[2]}
    await "video-clear serves" serves "$(digest_of video-clear)"
    printf 'the host listens on http://%s:%s\n' "$address" "$port"
}

# One page of the tasks that are done, without curl.
page() {
    exec 4<>"/dev/tcp/$address/$port"
    printf 'GET /v1/tasks?job=%s&state=done&limit=1000&after=%s HTTP/1.0\r\nHost: %s\r\n\r\n' "$JOB" "$1" "$address" >&4
    tr '{' '\n' <&4 >"$temp/page"
    exec 4>&-
}

# Counts in `ran` how many tasks each component ran, by its digest.
declare -A ran=()
count_runs() {
    local after=0 line
    while [[ -n $after ]]; do
        page "$after"
        after=''
        while IFS= read -r line || [[ -n $line ]]; do
            if [[ $line =~ \"digest\":\"([0-9a-f]+)\" ]]; then
                ran[${BASH_REMATCH[1]}]=$((${ran[${BASH_REMATCH[1]}]:-0} + 1))
            fi
            if [[ $line =~ \"next\":([0-9]+) ]]; then
                after=${BASH_REMATCH[1]}
            fi
        done <"$temp/page"
    done
}

check_needs
temp=$(mktemp -d)
rm -rf -- videos state
mkdir -p videos plugins
: >videos/.made-by-swap.sh
printf 'making %d sample videos\n' "$TOTAL"
seq -f 'sample-%05.0f.mp4' "$TOTAL" >"$temp/keys"
(cd videos && split -l 1 -d -a 5 --additional-suffix=.mp4 --numeric-suffixes=1 "$temp/keys" sample-)
install_policy video-clear
start_host

exec 3> >(exec "$sweepd" enqueue "$JOB" - >"$temp/queued" 2>&1)
feeder=$!
generations=()
for ((round = 0; round < ROUNDS; round++)); do
    policy=${POLICIES[round % 2]}
    if ((round > 0)); then
        install_policy "$policy"
        await "$policy serves" serves "$(digest_of "$policy")"
    fi
    generations+=("$(status number generation) $policy")
    printf 'generation %s serves, %d videos more are queued\n' "${generations[-1]/ /: }" "$SHARE"
    left=$(ls -U videos | wc -l)
    head -n $(((round + 1) * SHARE)) "$temp/keys" | tail -n "$SHARE" >&3
    # It is in the middle of its share when the next one comes.
    await "$policy works" fewer_than "$left"
done
exec 3>&-
wait "$feeder" || fail "sweepd enqueue failed: $(<"$temp/queued")"
feeder=''
await "all is done" drained

count_runs
cleared=${ran[$(digest_of video-clear)]:-0}
archived=${ran[$(digest_of video-archive)]:-0}
in_archive=$(ls -U videos/archive | wc -l)
left=$(($(ls -U videos | wc -l) - 1))
dead=$(status dead)

printf '\ngenerations:'
printf ' %s;' "${generations[@]/ / = }"
printf '\n%6d deleted by video-clear\n%6d moved by video-archive, %d are in ./videos/archive\n' \
    "$cleared" "$archived" "$in_archive"
printf '%6d in all, of %d; %d left in ./videos, %d failed\n' $((cleared + in_archive)) "$TOTAL" "$left" "$dead"

((${#generations[@]} == ROUNDS)) || fail "not every generation served"
((cleared > 0 && archived > 0)) || fail "one of the policies ran nothing"
((archived == in_archive && cleared + in_archive == TOTAL && left == 0 && dead == 0)) || fail "it does not add up"
printf 'everything adds up\n'
