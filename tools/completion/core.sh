# What may stand next on a command line of cairnctl, for bash and for zsh (with ksharrays and
# shwordsplit). Results go to the array _cairnctl_reply.

_cairnctl_own='backup commands events graph help wait-event watch'
_cairnctl_options='--help --json --long --object --pretty --socket --table --tls-creds --tls-hostname --version'

# Adds those of the words $2 that begin with $1, with $3 in front and $4 behind.
_cairnctl_add() {
  local word
  for word in $2; do
    if [[ "$word" == "$1"* ]]; then
      _cairnctl_reply+=("$3$word$4")
    fi
  done
}

# The value that was given for the key $1 so far.
_cairnctl_value_of() {
  local word
  for word in "${_cairnctl_given[@]}"; do
    if [[ "$word" == "$1="* ]]; then
      printf '%s' "${word#*=}"
      return
    fi
  done
}

# The members of the object type $1, as NAME:TYPE; its key is $2, with its dot. Those that come with
# the value of its tag are among them.
_cairnctl_members_of() {
  printf '%s ' "${_cairnctl_members[$1]-}"
  local tag="${_cairnctl_tags[$1]-}"
  if [[ -n "$tag" ]]; then
    local variant="${_cairnctl_variants[$1/$(_cairnctl_value_of "$2$tag")]-}"
    if [[ -n "$variant" ]]; then
      _cairnctl_members_of "$variant" "$2"
    fi
  fi
}

# The type $1, or those that it is one of.
_cairnctl_flat() {
  local branch
  if [[ -z "${_cairnctl_branches[$1]-}" ]]; then
    printf '%s ' "$1"
    return
  fi
  for branch in ${_cairnctl_branches[$1]}; do
    _cairnctl_flat "$branch"
  done
}

# The types of what has the key $2 below the types $1.
_cairnctl_types_at() {
  local types="$1" rest="$2" before='' part next type member
  while [[ -n "$rest" ]]; do
    part="${rest%%.*}"
    next=''
    for type in $types; do
      if [[ -n "${_cairnctl_elements[$type]-}" ]]; then
        if [[ "$part" == [0-9]* ]]; then
          next+="$(_cairnctl_flat "${_cairnctl_elements[$type]}")"
        fi
        continue
      fi
      for member in $(_cairnctl_members_of "$type" "$before"); do
        if [[ "${member%%:*}" == "$part" ]]; then
          next+="$(_cairnctl_flat "${member#*:}")"
        fi
      done
    done
    types="$next"
    before+="$part."
    if [[ "$rest" == *.* ]]; then
      rest="${rest#*.}"
    else
      rest=''
    fi
  done
  printf '%s' "$types"
}

# Keys and values of the command $1; $2 is the word to be completed.
_cairnctl_argument() {
  local root="${_cairnctl_arguments[$1]-}" type member name above prefix
  if [[ -z "$root" ]]; then
    return
  fi
  if [[ "$2" == *=* ]]; then
    for type in $(_cairnctl_types_at "$root" "${2%%=*}"); do
      while [[ -n "${_cairnctl_elements[$type]-}" ]]; do
        type="${_cairnctl_elements[$type]}"
      done
      _cairnctl_add "${2#*=}" "${_cairnctl_enums[$type]-}" "${2%%=*}=" ' '
    done
    return
  fi
  above=''
  if [[ "$2" == *.* ]]; then
    above="${2%.*}"
  fi
  prefix="${above:+$above.}"
  for type in $(_cairnctl_types_at "$root" "$above"); do
    for member in $(_cairnctl_members_of "$type" "$prefix"); do
      name="$prefix${member%%:*}"
      if [[ "$name" != "$2"* || -n "$(_cairnctl_value_of "$name")" ]]; then
        continue
      fi
      local leaf='' inner=''
      for type in $(_cairnctl_flat "${member#*:}"); do
        case "$type" in
          O*) inner=yes ;;
          L*)
            case "${_cairnctl_elements[$type]}" in
              [OA]*) inner=yes ;;
              *) leaf=yes ;;
            esac
            ;;
          *) leaf=yes ;;
        esac
      done
      if [[ -n "$leaf" ]]; then
        _cairnctl_reply+=("$name=")
      fi
      if [[ -n "$inner" ]]; then
        _cairnctl_reply+=("$name.")
      fi
    done
  done
}

# Fills _cairnctl_reply for the word $1, which comes after the words "${@:2}", the first of which is
# the program. A reply that ends with a space is complete. Returns 1 when a file name is wanted.
_cairnctl_complete() {
  local cur="$1" previous='' command='' word
  shift 2
  _cairnctl_reply=()
  _cairnctl_given=()
  for word in "$@"; do
    case "$previous" in
      -s | --socket | --format | --interval | --object | --point | --timeout | --tls-creds | --tls-hostname)
        previous=''
        continue
        ;;
    esac
    previous="$word"
    if [[ "$word" == -- ]]; then
      # What follows is a command of its own.
      command=''
      _cairnctl_given=()
    elif [[ "$word" != -* ]]; then
      if [[ -z "$command" ]]; then
        command="$word"
      else
        _cairnctl_given+=("$word")
      fi
    fi
  done
  case "$previous" in
    -s | --socket) return 1 ;;
    --format)
      case "$command" in
        backup) _cairnctl_add "$cur" 'qcow2 raw' '' ' ' ;;
        *) _cairnctl_add "$cur" 'dot svg text' '' ' ' ;;
      esac
      return 0
      ;;
    --interval | --keep | --object | --point | --timeout | --tls-creds | --tls-hostname) return 0 ;;
  esac
  if [[ "$cur" == -* ]]; then
    local options="$_cairnctl_options"
    case "$command" in
      watch) options+=' --interval --once' ;;
      backup)
        case "${_cairnctl_given[0]-}" in
          create) options+=' --compress --full' ;;
          prune) options+=' --keep' ;;
          restore) options+=' --format --point' ;;
        esac
        ;;
      graph) options+=' --format' ;;
      wait-event) options+=' --timeout' ;;
    esac
    _cairnctl_add "$cur" "$options" '' ' '
    return 0
  fi
  case "$command" in
    '') _cairnctl_add "$cur" "$_cairnctl_own $_cairnctl_commands" '' ' ' ;;
    help) _cairnctl_add "$cur" "$_cairnctl_commands" '' ' ' ;;
    backup)
      case "${_cairnctl_given[0]-}:${#_cairnctl_given[@]}" in
        :*) _cairnctl_add "$cur" 'create list prune restore verify' '' ' ' ;;
        create:2 | list:1 | prune:1 | verify:1 | restore:1 | restore:2) return 1 ;;
      esac
      ;;
    wait-event)
      if [[ ${#_cairnctl_given[@]} -eq 0 ]]; then
        _cairnctl_add "$cur" "$_cairnctl_events" '' ' '
      fi
      ;;
    *)
      _cairnctl_argument "$command" "$cur"
      case "$cur" in
        *filename=* | *path=* | *dir=*) return 1 ;;
      esac
      ;;
  esac
  return 0
}
