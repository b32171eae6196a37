# shellcheck shell=bash
# What became of each step, and the one table at the end.
# What always holds: a step that ends without a word about itself has failed; nothing that was not run counts as passed.
# A step says `passed N`, `failed N WHY`, `not_run N WHY` (each as often as it likes) into its own result file.

passed() { echo "passed $1" >>"$RESULT"; }
failed() { echo "failed $1 ${*:2}" >>"$RESULT"; }
not_run() { echo "not_run $1 ${*:2}" >>"$RESULT"; }

# need PART...: the step goes on with these parts, or says that it was not run and ends.
need() {
  local part why
  for part; do
    # shellcheck disable=SC2086
    if ! why=$(get_${part/:/ } 2>&1 1>&3); then
      echo "$why"
      not_run 1 "${why##*$'\n'}"
      exit 0
    fi
  done 3>&1
}

# cargo_counts LOG: passed and failed tests of every test binary that the log tells of. Ignored ones were not run.
cargo_counts() {
  local counts
  counts=$(sed -n 's/^test result: [a-zA-Z]*\. \([0-9]*\) passed; \([0-9]*\) failed; \([0-9]*\) ignored.*/\1 \2 \3/p' "$1" |
    awk '{ p += $1; f += $2; i += $3 } END { print p + 0, f + 0, i + 0 }')
  local p f i
  read -r p f i <<<"$counts"
  [ "$f" = 0 ] || failed "$f" "$(sed -n 's/^test \(.*\) \.\.\. FAILED$/\1/p' "$1" | sort -u | paste -sd ' ')"
  [ "$i" = 0 ] || not_run "$i" "ignored by an attribute in the source"
  # Tests that found a part missing on this machine came back as passed; they are not.
  if [ -s "$NOT_RUN" ]; then
    while read -r n why; do not_run "$n" "$why"; done <"$NOT_RUN"
    p=$((p - $(wc -l <"$NOT_RUN")))
  fi
  [ "$p" -le 0 ] || passed "$p"
}

count() { awk -v kind="$1" '$1 == kind { n += $2 } END { print n + 0 }' "$2"; }
why() { sed -n "s/^$1 [0-9]* //p" "$2" | sort | uniq -c | sed 's/^ *\([0-9]*\) /\1 x /; s/^1 x //'; }

# summary STEP...: the table, the reasons, and the line that everything else can be judged by.
# Returns non-zero on a failure, or (REQUIRE_ALL=1) on anything not run.
summary() {
  local step file p f n all_p=0 all_f=0 all_n=0
  printf '\n%-13s %8s %8s %8s %8s\n' step passed failed 'not run' seconds
  for step; do
    file=$OUT/$step.result
    p=$(count passed "$file") f=$(count failed "$file") n=$(count not_run "$file")
    printf '%-13s %8s %8s %8s %8s\n' "$step" "$p" "$f" "$n" "$(cat "$OUT/$step.seconds")"
    all_p=$((all_p + p)) all_f=$((all_f + f)) all_n=$((all_n + n))
  done
  for step; do
    why failed "$OUT/$step.result" | sed "s/^/FAILED  $step: /"
    why not_run "$OUT/$step.result" | sed "s/^/NOT RUN $step: /"
  done
  [ "$all_f" = 0 ] || echo "The words of each step: $OUT/STEP.log"
  echo
  [ "$all_n" = 0 ] || echo "$all_n NOT RUN${REQUIRE_ALL:+, which --require-all counts as a failure}"
  echo "$all_p passed, $all_f failed"
  [ "$all_f" = 0 ] && { [ -z "${REQUIRE_ALL:-}" ] || [ "$all_n" = 0 ]; }
}
