# Completion of elacsym's command line, for bash.
_elacsym() {
    local word=${COMP_WORDS[COMP_CWORD]} before=${COMP_WORDS[COMP_CWORD - 1]}
    if [ "$before" = --config ]; then
        mapfile -t COMPREPLY < <(compgen -f -- "$word")
        return
    fi
    local words="--config --check-config --version --help"
    case ${COMP_WORDS[1]} in
    verify) words="--config --namespace" ;;
    dump) words="--config" ;;
    *) [ "$COMP_CWORD" -eq 1 ] && words="verify dump $words" ;;
    esac
    mapfile -t COMPREPLY < <(compgen -W "$words" -- "$word")
}
complete -F _elacsym elacsym
