
_cairnctl() {
  emulate -L zsh
  setopt ksharrays shwordsplit
  local -a before complete open
  local one
  before=("${(@)words[0,CURRENT-2]}")
  if ! _cairnctl_complete "${words[CURRENT-1]}" "${before[@]}"; then
    compset -P '*='
    _files
    return
  fi
  for one in "${_cairnctl_reply[@]}"; do
    if [[ "$one" == *' ' ]]; then
      complete+=("${one% }")
    else
      open+=("$one")
    fi
  done
  if [[ ${#complete[@]} -gt 0 ]]; then
    compadd -- "${complete[@]}"
  fi
  if [[ ${#open[@]} -gt 0 ]]; then
    compadd -S '' -- "${open[@]}"
  fi
}
if [[ "${funcstack[1]-}" == _cairnctl ]]; then
  _cairnctl "$@"
fi
