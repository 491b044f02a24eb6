
_cairnctl() {
  # The words as they stand there: bash would split them at '=' and ':'.
  local line="${COMP_LINE:0:COMP_POINT}" cur='' head
  local -a words
  read -r -a words <<<"$line"
  if [[ "$line" != *[[:space:]] ]]; then
    cur="${words[${#words[@]} - 1]}"
    unset "words[${#words[@]} - 1]"
  fi
  # What bash has split off is there already, and not to be in the reply.
  head=''
  if [[ "$cur" == *=* && "$COMP_WORDBREAKS" == *=* ]]; then
    head="${cur%%=*}="
  fi
  local value="${cur#"$head"}"
  if [[ "$COMP_WORDBREAKS" == *:* && "$value" == *:* ]]; then
    head+="${value%:*}:"
  fi
  compopt -o nospace 2>/dev/null
  if _cairnctl_complete "$cur" "${words[@]}"; then
    COMPREPLY=("${_cairnctl_reply[@]#"$head"}")
  else
    compopt -o filenames +o nospace 2>/dev/null
    mapfile -t COMPREPLY < <(compgen -f -- "${cur#"$head"}")
  fi
}
complete -F _cairnctl cairnctl
