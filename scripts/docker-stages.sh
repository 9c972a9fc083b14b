#!/usr/bin/env bash
# Lints, builds and runs the Dockerfile without a container engine: each stage becomes an empty folder, and its own
# instructions, read from the file, are carried out there with this machine's Node. Then the last stage's ENTRYPOINT must
# serve, its HEALTHCHECK must notice, and STOPSIGNAL must end it with 0. What only an engine has (the base image, users,
# isolation) is not tried. An instruction that it does not know is an error. Needs npm ci.
set -euo pipefail
cd "$(dirname "$0")/.."

npx --no-install tsx scripts/check-dockerfile.ts

work=$(mktemp -d)
server=
finish() {
  if [ -n "$server" ]; then kill -KILL "$server" && wait "$server"; fi 2>/dev/null || true
  rm -rf "$work"
}
trap finish EXIT

fail() {
  printf 'docker-stages: %s\n' "$*" >&2
  exit 1
}

# The build context: what git knows or would add, less what .dockerignore names.
context=$work/context
mkdir "$context"
git ls-files -z --cached --others --exclude-standard |
  while IFS= read -r -d '' file; do [ ! -e "$file" ] || printf '%s\0' "$file"; done |
  tar --create --anchored --no-wildcards-match-slash --exclude-from=.dockerignore --null --files-from=- |
  tar --extract --directory "$context"

# The instructions, one a line: comments dropped, continued lines joined.
instructions() {
  sed -e '/^[[:space:]]*#/d' -e '/^[[:space:]]*$/d' Dockerfile | sed -e ':again' -e '/\\$/{N;s/\\\n//;b again' -e '}'
}

declare -A roots=()
stage=0 root='' directory='' environment=() entrypoint='' health='' stop_signal=''

begin_stage() {
  [ -z "${roots[$1]:-}" ] || fail "FROM $1: a stage on top of another is not known"
  stage=$((stage + 1)) root=$work/stage-$stage directory='' environment=()
  mkdir "$root"
  [ "${2:-}" != AS ] || roots[$3]=$root
}

copy() {
  local from=$context target source
  while [[ $1 == --* ]]; do
    case $1 in
      --from=*) from=${roots[${1#*=}]} ;;
      --chown=*) ;;
      *) fail "COPY $1 is not known" ;;
    esac
    shift
  done
  target=${!#}
  [[ $target == /* ]] && target=$root$target || target=$root$directory/$target
  for source in "${@:1:$#-1}"; do
    if [ -d "$from/$source" ]; then
      mkdir -p "$target"
      cp -R "$from/$source/." "$target"
    else
      cp "$from/$source" "$target"
    fi
  done
}

# Runs a command as the current stage would: in its folder, with its variables.
in_stage() {
  (cd "$root$directory" && exec env "${environment[@]}" "$@")
}

while read -r keyword rest; do
  printf '[%d] %s %s\n' "$stage" "$keyword" "$rest"
  read -ra words <<<"$rest"
  case $keyword in
    FROM) begin_stage "${words[@]}" ;;
    WORKDIR) directory=$rest && mkdir -p "$root$directory" ;;
    COPY) copy "${words[@]}" ;;
    ENV) environment+=("${words[@]}") ;;
    RUN) in_stage sh -c "$rest" </dev/null || fail "RUN $rest ended with $?" ;;
    HEALTHCHECK) health=${rest#*CMD } ;;
    STOPSIGNAL) stop_signal=$rest ;;
    ENTRYPOINT) entrypoint=$rest ;;
    ARG | LABEL | USER | VOLUME | EXPOSE) ;;
    *) fail "$keyword is not known" ;;
  esac
done < <(instructions)

# The words of an exec form (a JSON array), each ended by a zero byte.
exec_form() {
  node -e 'for (const word of JSON.parse(process.argv[1])) process.stdout.write(`${word}\0`)' "$1"
}
mapfile -d '' -t entrypoint_words < <(exec_form "$entrypoint")
mapfile -d '' -t health_words < <(exec_form "$health")

final=$root$directory
! grep -q '"dev": true' "$final/node_modules/.package-lock.json" || fail 'the last stage holds development dependencies'
data=$root$(in_stage sh -c 'echo "$DATA_DIR"')
[ -d "$data" ] || fail 'the last stage has no data folder'

# In a container the server has an address of its own; here it gets a free port of this machine, on loopback.
port=$(node -e 'const s = require("net").createServer().listen(0, "127.0.0.1", () => { console.log(s.address().port); s.close() })')
environment+=("HOST=127.0.0.1" "PORT=$port" "DATA_DIR=$data")
healthy() { in_stage "${health_words[@]}" >/dev/null 2>&1; }

! healthy || fail 'HEALTHCHECK succeeds while no server runs'
# No function here, because the process that gets the signal must be the server and not a shell around it.
(cd "$final" && exec env "${environment[@]}" "${entrypoint_words[@]}") >"$work/log" 2>&1 &
server=$!
for ((attempt = 0; attempt < 60; attempt++)); do
  if healthy; then break; fi
  kill -0 "$server" 2>/dev/null || break
  sleep 0.5
done
healthy || { cat "$work/log" >&2 && fail 'HEALTHCHECK never succeeded'; }
printf 'healthy on Node %s: %s\n' "$(node --version)" "$(du -sh "$final" | cut -f1) in $(basename "$final")"

status=0
kill -s "${stop_signal#SIG}" "$server"
wait "$server" || status=$?
server=
[ "$status" = 0 ] || { cat "$work/log" >&2 && fail "$stop_signal ended the server with $status"; }
! healthy || fail 'HEALTHCHECK succeeds after the server stopped'
printf '%s: every stage was built, the server was healthy, and %s ended it with 0\n' docker-stages "$stop_signal"
