#compdef cairn-img
# Completion of cairn-img for zsh. Commands, options and formats are those that the program's own
# help tells, so that they are always those of the program that is called.

# What its help says of the program ("") or of a command: (program, command).
_cairn_img_help() { "$1" ${2:+"$2"} --help 2>/dev/null; }

# "name:what it does" of each command.
_cairn_img_commands() { _cairn_img_help "$1" | sed -n 's/^  \([a-z]*\) - \(.*\)/\1:\2/p'; }

# "option:what it does" of each option of a command; several names of one have a line each.
_cairn_img_options() {
  _cairn_img_help "$1" "$2" | awk '/^  -/ {
    text = $0; sub(/^ */, "", text)
    at = match(text, /   *[^ -]/)
    names = at ? substr(text, 1, at - 1) : text
    what = at ? substr(text, at) : ""; sub(/^ */, "", what); gsub(/:/, ",", what)
    while (match(names, /(^|[ ,])--?[A-Za-z][a-z-]*/)) {
      name = substr(names, RSTART, RLENGTH); sub(/^[ ,]/, "", name)
      print name ":" what
      names = substr(names, RSTART + RLENGTH)
    }
  }'
}

_cairn_img_formats() { _cairn_img_help "$1" | sed -n 's/^Formats: *//p' | tr ' ' '\n'; }

# The values of an option, one a line; nothing when they are not known: (program, option).
_cairn_img_values() {
  case "$2" in
    -f | -O | -F | --format | --source-format | --target-format | --output-format | --backing-format)
      _cairn_img_formats "$1" ;;
    -t | -T | --cache | --target-cache | --source-cache)
      printf '%s\n' none directsync writeback writethrough unsafe ;;
    --output) printf '%s\n' human json ;;
    --preallocation) printf '%s\n' off metadata falloc full ;;
    --policy) printf '%s\n' trusted untrusted ;;
  esac
}

_cairn-img() {
  local program="${words[1]}"
  local -a found
  if ((CURRENT == 2)); then
    found=("${(@f)$(_cairn_img_commands "$program")}" --help --version --trace)
    _describe command found
  elif [[ "${words[CURRENT]}" == -* ]]; then
    found=("${(@f)$(_cairn_img_options "$program" "${words[2]}")}")
    _describe -o option found
  else
    found=("${(@f)$(_cairn_img_values "$program" "${words[CURRENT-1]}")}")
    if [[ -n "${found[1]}" ]]; then
      compadd -- "${found[@]}"
    else
      _files
    fi
  fi
}

if [[ "${funcstack[1]-}" == _cairn-img ]]; then
  _cairn-img "$@"
fi
