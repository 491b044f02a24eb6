# Completion of cairn-img for bash. Commands, options and formats are those that the program's own
# help tells, so that they are always those of the program that is called.

_cairn_img_formats() { "$1" --help 2>/dev/null | sed -n 's/^Formats: *//p'; }

_cairn_img() {
  local program="${COMP_WORDS[0]}" cur="${COMP_WORDS[COMP_CWORD]}" words=''
  if ((COMP_CWORD == 1)); then
    words="--help --version --trace $("$program" --help 2>/dev/null | sed -n 's/^  \([a-z]*\) - .*/\1/p')"
  elif [[ "$cur" == -* ]]; then
    # Option names stand at the beginning of a line, before what they are there for.
    words="$("$program" "${COMP_WORDS[1]}" --help 2>/dev/null |
      sed -n 's/^  \(-.*\)/\1/p' | sed 's/   *[^-].*//' | grep -oE -- '(^|[ ,])--?[A-Za-z][a-z-]*' | tr -d ' ,')"
  else
    case "${COMP_WORDS[COMP_CWORD - 1]}" in
      -f | -O | -F | --format | --source-format | --target-format | --output-format | --backing-format)
        words="$(_cairn_img_formats "$program")" ;;
      -t | -T | --cache | --target-cache | --source-cache)
        words='none directsync writeback writethrough unsafe' ;;
      --output) words='human json' ;;
      --preallocation) words='off metadata falloc full' ;;
      --policy) words='trusted untrusted' ;;
    esac
  fi
  if [[ -n "$words" ]]; then
    mapfile -t COMPREPLY < <(compgen -W "$words" -- "$cur")
  else
    compopt -o filenames 2>/dev/null
    mapfile -t COMPREPLY < <(compgen -f -- "$cur")
  fi
}
complete -F _cairn_img cairn-img
