# Print an optspec for argparse to handle cmd's options that are independent of any subcommand.
function __fish_rpub_global_optspecs
    string join \n store= cache-size= progress= q/quiet offline insecure-registry= plain-http= skip-tls-verify= ca-file= cert-dir= registries-conf= retry-times= retry-delay= max-wait= idle-timeout= concurrency= limit-rate= resolve= http-header= user-agent-prefix= authfile= src-authfile= dest-authfile= registry-token-file= h/help V/version
end

function __fish_rpub_needs_command
    # Figure out if the current invocation already has a command.
    set -l cmd (commandline -opc)
    set -e cmd[1]
    argparse -s (__fish_rpub_global_optspecs) -- $cmd 2>/dev/null
    or return
    if set -q argv[1]
        # Also print the command, so this can be used to figure out what it is.
        echo $argv[1]
        return 1
    end
    return 0
end

function __fish_rpub_using_subcommand
    set -l cmd (__fish_rpub_needs_command)
    test -z "$cmd"
    and return 1
    contains -- $cmd[1] $argv
end

complete -c rpub -n "__fish_rpub_needs_command" -l store -d 'Keep images, layers and the build cache here [default: ~/.local/share/rpub]' -r -F
complete -c rpub -n "__fish_rpub_needs_command" -l cache-size -d 'Keep the build cache within this size [default: a fifth of the disk, 10 to 100 GiB]' -r
complete -c rpub -n "__fish_rpub_needs_command" -l progress -d 'Show progress as auto, tty, plain, quiet or rawjson' -r -f -a "auto\t'Bars on a terminal, plain lines elsewhere'
tty\t'Bars'
plain\t'Numbered lines'
quiet\t'Nothing but warnings and errors'
rawjson\t'One JSON object a line, for programs'"
complete -c rpub -n "__fish_rpub_needs_command" -l insecure-registry -d 'Allow TLS with any certificate, or else plain HTTP, for this registry (repeatable)' -r
complete -c rpub -n "__fish_rpub_needs_command" -l plain-http -d 'Reach this registry by plain HTTP (repeatable)' -r
complete -c rpub -n "__fish_rpub_needs_command" -l skip-tls-verify -d 'Do not verify the certificate of this registry (repeatable)' -r
complete -c rpub -n "__fish_rpub_needs_command" -l ca-file -d 'Also trust the certificate authorities in this PEM file (repeatable)' -r -F
complete -c rpub -n "__fish_rpub_needs_command" -l cert-dir -d 'Use the authorities (*.crt) and client certificate (*.cert, *.key) in this directory' -r -F
complete -c rpub -n "__fish_rpub_needs_command" -l registries-conf -d 'Read mirrors from this file [default: containers/registries.conf in ~/.config or /etc]' -r -F
complete -c rpub -n "__fish_rpub_needs_command" -l retry-times -d 'Try a failed request so many times more [default: 4]' -r
complete -c rpub -n "__fish_rpub_needs_command" -l retry-delay -d 'Wait so long before the first retry, twice as long before each further one [default: 500ms]' -r
complete -c rpub -n "__fish_rpub_needs_command" -l max-wait -d 'Give up at once when a registry asks for a longer wait than this [default: 1m]' -r
complete -c rpub -n "__fish_rpub_needs_command" -l idle-timeout -d 'Break off when a registry does nothing for so long [default: 90s]' -r
complete -c rpub -n "__fish_rpub_needs_command" -l concurrency -d 'Move at most so many blobs at once each way [default: what the registry takes, up to 16]' -r
complete -c rpub -n "__fish_rpub_needs_command" -l limit-rate -d 'Move at most so many bytes a second, both ways together, as in 5MB' -r
complete -c rpub -n "__fish_rpub_needs_command" -l resolve -d 'Connect to this address for a registry\'s host and port (repeatable)' -r
complete -c rpub -n "__fish_rpub_needs_command" -l http-header -d 'Send this header to registries; @FILE reads lines from a file (repeatable)' -r
complete -c rpub -n "__fish_rpub_needs_command" -l user-agent-prefix -d 'Put this text before rpub\'s own in the user agent' -r
complete -c rpub -n "__fish_rpub_needs_command" -l authfile -d 'Look for logins in this file only; login and logout change it' -r -F
complete -c rpub -n "__fish_rpub_needs_command" -l src-authfile -d 'Look for logins for what is read from registries in this file only' -r -F
complete -c rpub -n "__fish_rpub_needs_command" -l dest-authfile -d 'Look for logins for what is written to registries in this file only' -r -F
complete -c rpub -n "__fish_rpub_needs_command" -l registry-token-file -d 'Send the bearer token in this file to this registry (repeatable)' -r
complete -c rpub -n "__fish_rpub_needs_command" -s q -l quiet -d 'Show no progress, print only the result'
complete -c rpub -n "__fish_rpub_needs_command" -l offline -d 'Open no connection to anybody: what is here counts, as it was last seen'
complete -c rpub -n "__fish_rpub_needs_command" -s h -l help -d 'Print help'
complete -c rpub -n "__fish_rpub_needs_command" -s V -l version -d 'Print version'
complete -c rpub -n "__fish_rpub_needs_command" -f -a "build" -d 'Build an image from a Dockerfile'
complete -c rpub -n "__fish_rpub_needs_command" -f -a "build-push" -d 'Build an image and push it to every tag given'
complete -c rpub -n "__fish_rpub_needs_command" -f -a "lock" -d 'Keep the digests of what a Dockerfile starts from and adds in rpub.lock'
complete -c rpub -n "__fish_rpub_needs_command" -f -a "fetch" -d 'Bring all that a Dockerfile starts from and adds into the store'
complete -c rpub -n "__fish_rpub_needs_command" -f -a "push" -d 'Push an image from the store to its registry'
complete -c rpub -n "__fish_rpub_needs_command" -f -a "pull" -d 'Pull an image into the store'
complete -c rpub -n "__fish_rpub_needs_command" -f -a "images" -d 'List images'
complete -c rpub -n "__fish_rpub_needs_command" -f -a "image" -d 'Work with images'
complete -c rpub -n "__fish_rpub_needs_command" -f -a "tag" -d 'Give an image another name, or list and remove the tags of a registry'
complete -c rpub -n "__fish_rpub_needs_command" -f -a "rmi" -d 'Remove names and images'
complete -c rpub -n "__fish_rpub_needs_command" -f -a "inspect" -d 'Show everything about an image'
complete -c rpub -n "__fish_rpub_needs_command" -f -a "history" -d 'Show what made each layer of an image'
complete -c rpub -n "__fish_rpub_needs_command" -f -a "import" -d 'Make an image from a root file system tar or directory'
complete -c rpub -n "__fish_rpub_needs_command" -f -a "bundle" -d 'Carry images where there is no network: many in one file, each layer once'
complete -c rpub -n "__fish_rpub_needs_command" -f -a "copy" -d 'Copy an image with all platforms and signatures, between registries and files'
complete -c rpub -n "__fish_rpub_needs_command" -f -a "mirror" -d 'Bring images of many registries where a file says, and only what has changed'
complete -c rpub -n "__fish_rpub_needs_command" -f -a "save" -d 'Write images of the store to a file, as docker save does'
complete -c rpub -n "__fish_rpub_needs_command" -f -a "load" -d 'Read the images of a file into the store, as docker load does'
complete -c rpub -n "__fish_rpub_needs_command" -f -a "index" -d 'Make and edit indexes, which hold the images of several platforms under one name'
complete -c rpub -n "__fish_rpub_needs_command" -f -a "mutate" -d 'Change labels, environment, annotations, times or format of an image in a registry'
complete -c rpub -n "__fish_rpub_needs_command" -f -a "append" -d 'Put layers on an image in a registry'
complete -c rpub -n "__fish_rpub_needs_command" -f -a "flatten" -d 'Make one layer of all layers of an image in a registry'
complete -c rpub -n "__fish_rpub_needs_command" -f -a "rebase" -d 'Put an image in a registry on another base, or see whether it should be'
complete -c rpub -n "__fish_rpub_needs_command" -f -a "validate" -d 'Read an image whole and hash everything again'
complete -c rpub -n "__fish_rpub_needs_command" -f -a "df" -d 'Show what the store takes on disk'
complete -c rpub -n "__fish_rpub_needs_command" -f -a "prune" -d 'Remove what only makes later builds faster, and images without a name'
complete -c rpub -n "__fish_rpub_needs_command" -f -a "system" -d 'Look after the store'
complete -c rpub -n "__fish_rpub_needs_command" -f -a "builder" -d 'Look after the build cache'
complete -c rpub -n "__fish_rpub_needs_command" -f -a "login" -d 'Log in to a registry'
complete -c rpub -n "__fish_rpub_needs_command" -f -a "logout" -d 'Log out of a registry'
complete -c rpub -n "__fish_rpub_needs_command" -f -a "whoami" -d 'Show who is logged in to a registry'
complete -c rpub -n "__fish_rpub_needs_command" -f -a "auth" -d 'See which credentials open a repository, or get a token'
complete -c rpub -n "__fish_rpub_needs_command" -f -a "digest" -d 'Print the digest of an image in its registry'
complete -c rpub -n "__fish_rpub_needs_command" -f -a "manifest" -d 'Work with the manifests of a registry'
complete -c rpub -n "__fish_rpub_needs_command" -f -a "blob" -d 'Work with the blobs of a registry'
complete -c rpub -n "__fish_rpub_needs_command" -f -a "repo" -d 'Work with the repositories of a registry'
complete -c rpub -n "__fish_rpub_needs_command" -f -a "referrers" -d 'List what refers to an image: signatures, attestations and other artifacts'
complete -c rpub -n "__fish_rpub_needs_command" -f -a "ping" -d 'Say whether a registry answers, how, and what it wants to see'
complete -c rpub -n "__fish_rpub_needs_command" -f -a "artifact" -d 'Move files as artifacts, and attach them to images'
complete -c rpub -n "__fish_rpub_needs_command" -f -a "serve" -d 'Serve the store as a registry'
complete -c rpub -n "__fish_rpub_needs_command" -f -a "completion" -d 'Print a shell completion script'
complete -c rpub -n "__fish_rpub_needs_command" -f -a "version" -d 'Print the version'
complete -c rpub -n "__fish_rpub_needs_command" -f -a "help" -d 'Print this message or the help of the given subcommand(s)'
complete -c rpub -n "__fish_rpub_using_subcommand build" -s t -l tag -d 'Name the image, with the tag latest unless one is given (repeatable)' -r
complete -c rpub -n "__fish_rpub_using_subcommand build" -l build-context -d 'Add a context for FROM and COPY --from: a directory, docker-image://REFERENCE, oci-layout://DIRECTORY[:TAG|@DIGEST], a git or http(s) URL (repeatable)' -r
complete -c rpub -n "__fish_rpub_using_subcommand build" -s f -l file -d 'Read this Dockerfile, a URL, or - for standard input [default: PATH/Dockerfile]' -r -F
complete -c rpub -n "__fish_rpub_using_subcommand build" -l build-arg -d 'Set a build argument, from the environment if it has no value (repeatable)' -r
complete -c rpub -n "__fish_rpub_using_subcommand build" -l build-arg-file -d 'Read build arguments from this file, a line each; --build-arg wins (repeatable)' -r -F
complete -c rpub -n "__fish_rpub_using_subcommand build" -l target -d 'Stop at this stage' -r
complete -c rpub -n "__fish_rpub_using_subcommand build" -l lock-file -d 'Take bases by the digests in this file [default: rpub.lock beside the Dockerfile]' -r -F
complete -c rpub -n "__fish_rpub_using_subcommand build" -l platform -d 'Build for these platforms, separated by commas [default: this machine\'s]' -r
complete -c rpub -n "__fish_rpub_using_subcommand build" -l label -d 'Add a label to the image (repeatable)' -r
complete -c rpub -n "__fish_rpub_using_subcommand build" -l no-cache-filter -d 'Run every step of this stage, though its result is in the cache (repeatable)' -r
complete -c rpub -n "__fish_rpub_using_subcommand build" -l cache-from -d 'Look results up there: a repository, or type=registry,ref=... or type=local,src=... (repeatable)' -r
complete -c rpub -n "__fish_rpub_using_subcommand build" -l cache-to -d 'Keep results there: type=registry,ref=..., type=local,dest=... or type=inline; with mode=max of all stages (repeatable)' -r
complete -c rpub -n "__fish_rpub_using_subcommand build" -l pull -d 'Ask the registry for base images always (--pull alone), if missing, or never' -r -f -a "always\t'Always ask whether the tag has moved'
missing\t'Ask only for what the store lacks'
never\t'Never ask'"
complete -c rpub -n "__fish_rpub_using_subcommand build" -l network -d 'Give RUN steps this network: default (the host\'s), host or none' -r
complete -c rpub -n "__fish_rpub_using_subcommand build" -l add-host -d 'Add a line to /etc/hosts of RUN steps; host-gateway means this machine (repeatable)' -r
complete -c rpub -n "__fish_rpub_using_subcommand build" -l allow -d 'Let the Dockerfile use network.host or security.insecure (repeatable)' -r
complete -c rpub -n "__fish_rpub_using_subcommand build" -l secret -d 'Give a secret to RUN --mount=type=secret: a file, or a variable (repeatable)' -r
complete -c rpub -n "__fish_rpub_using_subcommand build" -l ssh -d 'Give an ssh agent to RUN --mount=type=ssh: SSH_AUTH_SOCK\'s, or by socket or keys (repeatable)' -r
complete -c rpub -n "__fish_rpub_using_subcommand build" -l shm-size -d 'Set the size of /dev/shm of RUN steps, such as 128m [default: 64m]' -r
complete -c rpub -n "__fish_rpub_using_subcommand build" -l ulimit -d 'Set a resource limit of RUN steps, as far as it may be raised (repeatable)' -r
complete -c rpub -n "__fish_rpub_using_subcommand build" -l rm -r
complete -c rpub -n "__fish_rpub_using_subcommand build" -l force-rm -r
complete -c rpub -n "__fish_rpub_using_subcommand build" -l compress -r
complete -c rpub -n "__fish_rpub_using_subcommand build" -s m -l memory -r
complete -c rpub -n "__fish_rpub_using_subcommand build" -l memory-swap -r
complete -c rpub -n "__fish_rpub_using_subcommand build" -s c -l cpu-shares -r
complete -c rpub -n "__fish_rpub_using_subcommand build" -l cpu-period -r
complete -c rpub -n "__fish_rpub_using_subcommand build" -l cpu-quota -r
complete -c rpub -n "__fish_rpub_using_subcommand build" -l cpuset-cpus -r
complete -c rpub -n "__fish_rpub_using_subcommand build" -l cpuset-mems -r
complete -c rpub -n "__fish_rpub_using_subcommand build" -l cgroup-parent -r
complete -c rpub -n "__fish_rpub_using_subcommand build" -l isolation -r
complete -c rpub -n "__fish_rpub_using_subcommand build" -l security-opt -r
complete -c rpub -n "__fish_rpub_using_subcommand build" -s o -l output -d 'Write the result as well or instead: a directory, - for a tar on standard output, or type=local|tar|oci|docker|image|registry[,dest=PATH][,KEY=VALUE...] (repeatable)' -r
complete -c rpub -n "__fish_rpub_using_subcommand build" -l annotation -d 'Add an annotation; TYPE is manifest, index, manifest-descriptor or index-descriptor' -r
complete -c rpub -n "__fish_rpub_using_subcommand build" -l iidfile -d 'Write the image id to this file' -r -F
complete -c rpub -n "__fish_rpub_using_subcommand build" -l metadata-file -d 'Write names and digests to this file as JSON, with buildx\'s keys' -r -F
complete -c rpub -n "__fish_rpub_using_subcommand build" -l call -d 'Answer instead of building: check, outline, targets or subrequests.describe, and ,format=json' -r
complete -c rpub -n "__fish_rpub_using_subcommand build" -l store -d 'Keep images, layers and the build cache here [default: ~/.local/share/rpub]' -r -F
complete -c rpub -n "__fish_rpub_using_subcommand build" -l cache-size -d 'Keep the build cache within this size [default: a fifth of the disk, 10 to 100 GiB]' -r
complete -c rpub -n "__fish_rpub_using_subcommand build" -l progress -d 'Show progress as auto, tty, plain, quiet or rawjson' -r -f -a "auto\t'Bars on a terminal, plain lines elsewhere'
tty\t'Bars'
plain\t'Numbered lines'
quiet\t'Nothing but warnings and errors'
rawjson\t'One JSON object a line, for programs'"
complete -c rpub -n "__fish_rpub_using_subcommand build" -l insecure-registry -d 'Allow TLS with any certificate, or else plain HTTP, for this registry (repeatable)' -r
complete -c rpub -n "__fish_rpub_using_subcommand build" -l plain-http -d 'Reach this registry by plain HTTP (repeatable)' -r
complete -c rpub -n "__fish_rpub_using_subcommand build" -l skip-tls-verify -d 'Do not verify the certificate of this registry (repeatable)' -r
complete -c rpub -n "__fish_rpub_using_subcommand build" -l ca-file -d 'Also trust the certificate authorities in this PEM file (repeatable)' -r -F
complete -c rpub -n "__fish_rpub_using_subcommand build" -l cert-dir -d 'Use the authorities (*.crt) and client certificate (*.cert, *.key) in this directory' -r -F
complete -c rpub -n "__fish_rpub_using_subcommand build" -l registries-conf -d 'Read mirrors from this file [default: containers/registries.conf in ~/.config or /etc]' -r -F
complete -c rpub -n "__fish_rpub_using_subcommand build" -l retry-times -d 'Try a failed request so many times more [default: 4]' -r
complete -c rpub -n "__fish_rpub_using_subcommand build" -l retry-delay -d 'Wait so long before the first retry, twice as long before each further one [default: 500ms]' -r
complete -c rpub -n "__fish_rpub_using_subcommand build" -l max-wait -d 'Give up at once when a registry asks for a longer wait than this [default: 1m]' -r
complete -c rpub -n "__fish_rpub_using_subcommand build" -l idle-timeout -d 'Break off when a registry does nothing for so long [default: 90s]' -r
complete -c rpub -n "__fish_rpub_using_subcommand build" -l concurrency -d 'Move at most so many blobs at once each way [default: what the registry takes, up to 16]' -r
complete -c rpub -n "__fish_rpub_using_subcommand build" -l limit-rate -d 'Move at most so many bytes a second, both ways together, as in 5MB' -r
complete -c rpub -n "__fish_rpub_using_subcommand build" -l resolve -d 'Connect to this address for a registry\'s host and port (repeatable)' -r
complete -c rpub -n "__fish_rpub_using_subcommand build" -l http-header -d 'Send this header to registries; @FILE reads lines from a file (repeatable)' -r
complete -c rpub -n "__fish_rpub_using_subcommand build" -l user-agent-prefix -d 'Put this text before rpub\'s own in the user agent' -r
complete -c rpub -n "__fish_rpub_using_subcommand build" -l authfile -d 'Look for logins in this file only; login and logout change it' -r -F
complete -c rpub -n "__fish_rpub_using_subcommand build" -l src-authfile -d 'Look for logins for what is read from registries in this file only' -r -F
complete -c rpub -n "__fish_rpub_using_subcommand build" -l dest-authfile -d 'Look for logins for what is written to registries in this file only' -r -F
complete -c rpub -n "__fish_rpub_using_subcommand build" -l registry-token-file -d 'Send the bearer token in this file to this registry (repeatable)' -r
complete -c rpub -n "__fish_rpub_using_subcommand build" -l locked -d 'Fail when a base, URL or repository is not in the lock file'
complete -c rpub -n "__fish_rpub_using_subcommand build" -l no-cache -d 'Run every step, though its result is in the cache'
complete -c rpub -n "__fish_rpub_using_subcommand build" -l explain -d 'Say of each step that runs what differs from the nearest earlier result'
complete -c rpub -n "__fish_rpub_using_subcommand build" -l shell-on-error -d 'Open a shell where a step fails, with its files, mounts and environment; then fail'
complete -c rpub -n "__fish_rpub_using_subcommand build" -l load -d 'Keep the image in the store though there are other outputs'
complete -c rpub -n "__fish_rpub_using_subcommand build" -l squash -d 'Make one layer of all that the steps made'
complete -c rpub -n "__fish_rpub_using_subcommand build" -l reproducible -d 'Make the same image of the same input, on any machine at any time'
complete -c rpub -n "__fish_rpub_using_subcommand build" -l check -d 'Check the Dockerfile and build nothing, as --call=check does'
complete -c rpub -n "__fish_rpub_using_subcommand build" -l push -d 'Push as well, as build-push does'
complete -c rpub -n "__fish_rpub_using_subcommand build" -s q -l quiet -d 'Show no progress, print only the result'
complete -c rpub -n "__fish_rpub_using_subcommand build" -l offline -d 'Open no connection to anybody: what is here counts, as it was last seen'
complete -c rpub -n "__fish_rpub_using_subcommand build" -s h -l help -d 'Print help'
complete -c rpub -n "__fish_rpub_using_subcommand build-push" -s t -l tag -d 'Name the image, with the tag latest unless one is given (repeatable)' -r
complete -c rpub -n "__fish_rpub_using_subcommand build-push" -l build-context -d 'Add a context for FROM and COPY --from: a directory, docker-image://REFERENCE, oci-layout://DIRECTORY[:TAG|@DIGEST], a git or http(s) URL (repeatable)' -r
complete -c rpub -n "__fish_rpub_using_subcommand build-push" -s f -l file -d 'Read this Dockerfile, a URL, or - for standard input [default: PATH/Dockerfile]' -r -F
complete -c rpub -n "__fish_rpub_using_subcommand build-push" -l build-arg -d 'Set a build argument, from the environment if it has no value (repeatable)' -r
complete -c rpub -n "__fish_rpub_using_subcommand build-push" -l build-arg-file -d 'Read build arguments from this file, a line each; --build-arg wins (repeatable)' -r -F
complete -c rpub -n "__fish_rpub_using_subcommand build-push" -l target -d 'Stop at this stage' -r
complete -c rpub -n "__fish_rpub_using_subcommand build-push" -l lock-file -d 'Take bases by the digests in this file [default: rpub.lock beside the Dockerfile]' -r -F
complete -c rpub -n "__fish_rpub_using_subcommand build-push" -l platform -d 'Build for these platforms, separated by commas [default: this machine\'s]' -r
complete -c rpub -n "__fish_rpub_using_subcommand build-push" -l label -d 'Add a label to the image (repeatable)' -r
complete -c rpub -n "__fish_rpub_using_subcommand build-push" -l no-cache-filter -d 'Run every step of this stage, though its result is in the cache (repeatable)' -r
complete -c rpub -n "__fish_rpub_using_subcommand build-push" -l cache-from -d 'Look results up there: a repository, or type=registry,ref=... or type=local,src=... (repeatable)' -r
complete -c rpub -n "__fish_rpub_using_subcommand build-push" -l cache-to -d 'Keep results there: type=registry,ref=..., type=local,dest=... or type=inline; with mode=max of all stages (repeatable)' -r
complete -c rpub -n "__fish_rpub_using_subcommand build-push" -l pull -d 'Ask the registry for base images always (--pull alone), if missing, or never' -r -f -a "always\t'Always ask whether the tag has moved'
missing\t'Ask only for what the store lacks'
never\t'Never ask'"
complete -c rpub -n "__fish_rpub_using_subcommand build-push" -l network -d 'Give RUN steps this network: default (the host\'s), host or none' -r
complete -c rpub -n "__fish_rpub_using_subcommand build-push" -l add-host -d 'Add a line to /etc/hosts of RUN steps; host-gateway means this machine (repeatable)' -r
complete -c rpub -n "__fish_rpub_using_subcommand build-push" -l allow -d 'Let the Dockerfile use network.host or security.insecure (repeatable)' -r
complete -c rpub -n "__fish_rpub_using_subcommand build-push" -l secret -d 'Give a secret to RUN --mount=type=secret: a file, or a variable (repeatable)' -r
complete -c rpub -n "__fish_rpub_using_subcommand build-push" -l ssh -d 'Give an ssh agent to RUN --mount=type=ssh: SSH_AUTH_SOCK\'s, or by socket or keys (repeatable)' -r
complete -c rpub -n "__fish_rpub_using_subcommand build-push" -l shm-size -d 'Set the size of /dev/shm of RUN steps, such as 128m [default: 64m]' -r
complete -c rpub -n "__fish_rpub_using_subcommand build-push" -l ulimit -d 'Set a resource limit of RUN steps, as far as it may be raised (repeatable)' -r
complete -c rpub -n "__fish_rpub_using_subcommand build-push" -l rm -r
complete -c rpub -n "__fish_rpub_using_subcommand build-push" -l force-rm -r
complete -c rpub -n "__fish_rpub_using_subcommand build-push" -l compress -r
complete -c rpub -n "__fish_rpub_using_subcommand build-push" -s m -l memory -r
complete -c rpub -n "__fish_rpub_using_subcommand build-push" -l memory-swap -r
complete -c rpub -n "__fish_rpub_using_subcommand build-push" -s c -l cpu-shares -r
complete -c rpub -n "__fish_rpub_using_subcommand build-push" -l cpu-period -r
complete -c rpub -n "__fish_rpub_using_subcommand build-push" -l cpu-quota -r
complete -c rpub -n "__fish_rpub_using_subcommand build-push" -l cpuset-cpus -r
complete -c rpub -n "__fish_rpub_using_subcommand build-push" -l cpuset-mems -r
complete -c rpub -n "__fish_rpub_using_subcommand build-push" -l cgroup-parent -r
complete -c rpub -n "__fish_rpub_using_subcommand build-push" -l isolation -r
complete -c rpub -n "__fish_rpub_using_subcommand build-push" -l security-opt -r
complete -c rpub -n "__fish_rpub_using_subcommand build-push" -s o -l output -d 'Write the result as well or instead: a directory, - for a tar on standard output, or type=local|tar|oci|docker|image|registry[,dest=PATH][,KEY=VALUE...] (repeatable)' -r
complete -c rpub -n "__fish_rpub_using_subcommand build-push" -l annotation -d 'Add an annotation; TYPE is manifest, index, manifest-descriptor or index-descriptor' -r
complete -c rpub -n "__fish_rpub_using_subcommand build-push" -l iidfile -d 'Write the image id to this file' -r -F
complete -c rpub -n "__fish_rpub_using_subcommand build-push" -l metadata-file -d 'Write names and digests to this file as JSON, with buildx\'s keys' -r -F
complete -c rpub -n "__fish_rpub_using_subcommand build-push" -l call -d 'Answer instead of building: check, outline, targets or subrequests.describe, and ,format=json' -r
complete -c rpub -n "__fish_rpub_using_subcommand build-push" -l store -d 'Keep images, layers and the build cache here [default: ~/.local/share/rpub]' -r -F
complete -c rpub -n "__fish_rpub_using_subcommand build-push" -l cache-size -d 'Keep the build cache within this size [default: a fifth of the disk, 10 to 100 GiB]' -r
complete -c rpub -n "__fish_rpub_using_subcommand build-push" -l progress -d 'Show progress as auto, tty, plain, quiet or rawjson' -r -f -a "auto\t'Bars on a terminal, plain lines elsewhere'
tty\t'Bars'
plain\t'Numbered lines'
quiet\t'Nothing but warnings and errors'
rawjson\t'One JSON object a line, for programs'"
complete -c rpub -n "__fish_rpub_using_subcommand build-push" -l insecure-registry -d 'Allow TLS with any certificate, or else plain HTTP, for this registry (repeatable)' -r
complete -c rpub -n "__fish_rpub_using_subcommand build-push" -l plain-http -d 'Reach this registry by plain HTTP (repeatable)' -r
complete -c rpub -n "__fish_rpub_using_subcommand build-push" -l skip-tls-verify -d 'Do not verify the certificate of this registry (repeatable)' -r
complete -c rpub -n "__fish_rpub_using_subcommand build-push" -l ca-file -d 'Also trust the certificate authorities in this PEM file (repeatable)' -r -F
complete -c rpub -n "__fish_rpub_using_subcommand build-push" -l cert-dir -d 'Use the authorities (*.crt) and client certificate (*.cert, *.key) in this directory' -r -F
complete -c rpub -n "__fish_rpub_using_subcommand build-push" -l registries-conf -d 'Read mirrors from this file [default: containers/registries.conf in ~/.config or /etc]' -r -F
complete -c rpub -n "__fish_rpub_using_subcommand build-push" -l retry-times -d 'Try a failed request so many times more [default: 4]' -r
complete -c rpub -n "__fish_rpub_using_subcommand build-push" -l retry-delay -d 'Wait so long before the first retry, twice as long before each further one [default: 500ms]' -r
complete -c rpub -n "__fish_rpub_using_subcommand build-push" -l max-wait -d 'Give up at once when a registry asks for a longer wait than this [default: 1m]' -r
complete -c rpub -n "__fish_rpub_using_subcommand build-push" -l idle-timeout -d 'Break off when a registry does nothing for so long [default: 90s]' -r
complete -c rpub -n "__fish_rpub_using_subcommand build-push" -l concurrency -d 'Move at most so many blobs at once each way [default: what the registry takes, up to 16]' -r
complete -c rpub -n "__fish_rpub_using_subcommand build-push" -l limit-rate -d 'Move at most so many bytes a second, both ways together, as in 5MB' -r
complete -c rpub -n "__fish_rpub_using_subcommand build-push" -l resolve -d 'Connect to this address for a registry\'s host and port (repeatable)' -r
complete -c rpub -n "__fish_rpub_using_subcommand build-push" -l http-header -d 'Send this header to registries; @FILE reads lines from a file (repeatable)' -r
complete -c rpub -n "__fish_rpub_using_subcommand build-push" -l user-agent-prefix -d 'Put this text before rpub\'s own in the user agent' -r
complete -c rpub -n "__fish_rpub_using_subcommand build-push" -l authfile -d 'Look for logins in this file only; login and logout change it' -r -F
complete -c rpub -n "__fish_rpub_using_subcommand build-push" -l src-authfile -d 'Look for logins for what is read from registries in this file only' -r -F
complete -c rpub -n "__fish_rpub_using_subcommand build-push" -l dest-authfile -d 'Look for logins for what is written to registries in this file only' -r -F
complete -c rpub -n "__fish_rpub_using_subcommand build-push" -l registry-token-file -d 'Send the bearer token in this file to this registry (repeatable)' -r
complete -c rpub -n "__fish_rpub_using_subcommand build-push" -l locked -d 'Fail when a base, URL or repository is not in the lock file'
complete -c rpub -n "__fish_rpub_using_subcommand build-push" -l no-cache -d 'Run every step, though its result is in the cache'
complete -c rpub -n "__fish_rpub_using_subcommand build-push" -l explain -d 'Say of each step that runs what differs from the nearest earlier result'
complete -c rpub -n "__fish_rpub_using_subcommand build-push" -l shell-on-error -d 'Open a shell where a step fails, with its files, mounts and environment; then fail'
complete -c rpub -n "__fish_rpub_using_subcommand build-push" -l load -d 'Keep the image in the store though there are other outputs'
complete -c rpub -n "__fish_rpub_using_subcommand build-push" -l squash -d 'Make one layer of all that the steps made'
complete -c rpub -n "__fish_rpub_using_subcommand build-push" -l reproducible -d 'Make the same image of the same input, on any machine at any time'
complete -c rpub -n "__fish_rpub_using_subcommand build-push" -l check -d 'Check the Dockerfile and build nothing, as --call=check does'
complete -c rpub -n "__fish_rpub_using_subcommand build-push" -l push -d 'Push as well, as build-push does'
complete -c rpub -n "__fish_rpub_using_subcommand build-push" -s q -l quiet -d 'Show no progress, print only the result'
complete -c rpub -n "__fish_rpub_using_subcommand build-push" -l offline -d 'Open no connection to anybody: what is here counts, as it was last seen'
complete -c rpub -n "__fish_rpub_using_subcommand build-push" -s h -l help -d 'Print help'
complete -c rpub -n "__fish_rpub_using_subcommand lock" -l build-context -d 'Add a context for FROM and COPY --from: a directory, docker-image://REFERENCE, oci-layout://DIRECTORY[:TAG|@DIGEST], a git or http(s) URL (repeatable)' -r
complete -c rpub -n "__fish_rpub_using_subcommand lock" -s f -l file -d 'Read this Dockerfile, a URL, or - for standard input [default: PATH/Dockerfile]' -r -F
complete -c rpub -n "__fish_rpub_using_subcommand lock" -l build-arg -d 'Set a build argument, from the environment if it has no value (repeatable)' -r
complete -c rpub -n "__fish_rpub_using_subcommand lock" -l build-arg-file -d 'Read build arguments from this file, a line each; --build-arg wins (repeatable)' -r -F
complete -c rpub -n "__fish_rpub_using_subcommand lock" -l target -d 'Stop at this stage' -r
complete -c rpub -n "__fish_rpub_using_subcommand lock" -l lock-file -d 'Write this file [default: rpub.lock beside the Dockerfile]' -r -F
complete -c rpub -n "__fish_rpub_using_subcommand lock" -l platform -d 'Lock for these platforms, separated by commas [default: the lock file\'s, or this machine\'s]' -r
complete -c rpub -n "__fish_rpub_using_subcommand lock" -l update -d 'Look up anew what these names are, or all, and show the difference' -r
complete -c rpub -n "__fish_rpub_using_subcommand lock" -l secret -d 'Give a secret, such as a token for a URL, as in build (repeatable)' -r
complete -c rpub -n "__fish_rpub_using_subcommand lock" -l ssh -d 'Give an agent or keys for ssh, as in build (repeatable)' -r
complete -c rpub -n "__fish_rpub_using_subcommand lock" -l format -d 'Print json, the template given, or with table before it a table: \'table {{.ID}}\'' -r
complete -c rpub -n "__fish_rpub_using_subcommand lock" -l store -d 'Keep images, layers and the build cache here [default: ~/.local/share/rpub]' -r -F
complete -c rpub -n "__fish_rpub_using_subcommand lock" -l cache-size -d 'Keep the build cache within this size [default: a fifth of the disk, 10 to 100 GiB]' -r
complete -c rpub -n "__fish_rpub_using_subcommand lock" -l progress -d 'Show progress as auto, tty, plain, quiet or rawjson' -r -f -a "auto\t'Bars on a terminal, plain lines elsewhere'
tty\t'Bars'
plain\t'Numbered lines'
quiet\t'Nothing but warnings and errors'
rawjson\t'One JSON object a line, for programs'"
complete -c rpub -n "__fish_rpub_using_subcommand lock" -l insecure-registry -d 'Allow TLS with any certificate, or else plain HTTP, for this registry (repeatable)' -r
complete -c rpub -n "__fish_rpub_using_subcommand lock" -l plain-http -d 'Reach this registry by plain HTTP (repeatable)' -r
complete -c rpub -n "__fish_rpub_using_subcommand lock" -l skip-tls-verify -d 'Do not verify the certificate of this registry (repeatable)' -r
complete -c rpub -n "__fish_rpub_using_subcommand lock" -l ca-file -d 'Also trust the certificate authorities in this PEM file (repeatable)' -r -F
complete -c rpub -n "__fish_rpub_using_subcommand lock" -l cert-dir -d 'Use the authorities (*.crt) and client certificate (*.cert, *.key) in this directory' -r -F
complete -c rpub -n "__fish_rpub_using_subcommand lock" -l registries-conf -d 'Read mirrors from this file [default: containers/registries.conf in ~/.config or /etc]' -r -F
complete -c rpub -n "__fish_rpub_using_subcommand lock" -l retry-times -d 'Try a failed request so many times more [default: 4]' -r
complete -c rpub -n "__fish_rpub_using_subcommand lock" -l retry-delay -d 'Wait so long before the first retry, twice as long before each further one [default: 500ms]' -r
complete -c rpub -n "__fish_rpub_using_subcommand lock" -l max-wait -d 'Give up at once when a registry asks for a longer wait than this [default: 1m]' -r
complete -c rpub -n "__fish_rpub_using_subcommand lock" -l idle-timeout -d 'Break off when a registry does nothing for so long [default: 90s]' -r
complete -c rpub -n "__fish_rpub_using_subcommand lock" -l concurrency -d 'Move at most so many blobs at once each way [default: what the registry takes, up to 16]' -r
complete -c rpub -n "__fish_rpub_using_subcommand lock" -l limit-rate -d 'Move at most so many bytes a second, both ways together, as in 5MB' -r
complete -c rpub -n "__fish_rpub_using_subcommand lock" -l resolve -d 'Connect to this address for a registry\'s host and port (repeatable)' -r
complete -c rpub -n "__fish_rpub_using_subcommand lock" -l http-header -d 'Send this header to registries; @FILE reads lines from a file (repeatable)' -r
complete -c rpub -n "__fish_rpub_using_subcommand lock" -l user-agent-prefix -d 'Put this text before rpub\'s own in the user agent' -r
complete -c rpub -n "__fish_rpub_using_subcommand lock" -l authfile -d 'Look for logins in this file only; login and logout change it' -r -F
complete -c rpub -n "__fish_rpub_using_subcommand lock" -l src-authfile -d 'Look for logins for what is read from registries in this file only' -r -F
complete -c rpub -n "__fish_rpub_using_subcommand lock" -l dest-authfile -d 'Look for logins for what is written to registries in this file only' -r -F
complete -c rpub -n "__fish_rpub_using_subcommand lock" -l registry-token-file -d 'Send the bearer token in this file to this registry (repeatable)' -r
complete -c rpub -n "__fish_rpub_using_subcommand lock" -l check -d 'Write nothing; fail when the lock file would change'
complete -c rpub -n "__fish_rpub_using_subcommand lock" -s q -l quiet -d 'Show no progress, print only the result'
complete -c rpub -n "__fish_rpub_using_subcommand lock" -l offline -d 'Open no connection to anybody: what is here counts, as it was last seen'
complete -c rpub -n "__fish_rpub_using_subcommand lock" -s h -l help -d 'Print help'
complete -c rpub -n "__fish_rpub_using_subcommand fetch" -l build-context -d 'Add a context for FROM and COPY --from: a directory, docker-image://REFERENCE, oci-layout://DIRECTORY[:TAG|@DIGEST], a git or http(s) URL (repeatable)' -r
complete -c rpub -n "__fish_rpub_using_subcommand fetch" -s f -l file -d 'Read this Dockerfile, a URL, or - for standard input [default: PATH/Dockerfile]' -r -F
complete -c rpub -n "__fish_rpub_using_subcommand fetch" -l build-arg -d 'Set a build argument, from the environment if it has no value (repeatable)' -r
complete -c rpub -n "__fish_rpub_using_subcommand fetch" -l build-arg-file -d 'Read build arguments from this file, a line each; --build-arg wins (repeatable)' -r -F
complete -c rpub -n "__fish_rpub_using_subcommand fetch" -l target -d 'Stop at this stage' -r
complete -c rpub -n "__fish_rpub_using_subcommand fetch" -l lock-file -d 'Take bases by the digests in this file [default: rpub.lock beside the Dockerfile]' -r -F
complete -c rpub -n "__fish_rpub_using_subcommand fetch" -l platform -d 'Fetch for these platforms, separated by commas [default: the lock file\'s, or this machine\'s]' -r
complete -c rpub -n "__fish_rpub_using_subcommand fetch" -l secret -d 'Give a secret, such as a token for a URL, as in build (repeatable)' -r
complete -c rpub -n "__fish_rpub_using_subcommand fetch" -l ssh -d 'Give an agent or keys for ssh, as in build (repeatable)' -r
complete -c rpub -n "__fish_rpub_using_subcommand fetch" -l format -d 'Print json, the template given, or with table before it a table: \'table {{.ID}}\'' -r
complete -c rpub -n "__fish_rpub_using_subcommand fetch" -l store -d 'Keep images, layers and the build cache here [default: ~/.local/share/rpub]' -r -F
complete -c rpub -n "__fish_rpub_using_subcommand fetch" -l cache-size -d 'Keep the build cache within this size [default: a fifth of the disk, 10 to 100 GiB]' -r
complete -c rpub -n "__fish_rpub_using_subcommand fetch" -l progress -d 'Show progress as auto, tty, plain, quiet or rawjson' -r -f -a "auto\t'Bars on a terminal, plain lines elsewhere'
tty\t'Bars'
plain\t'Numbered lines'
quiet\t'Nothing but warnings and errors'
rawjson\t'One JSON object a line, for programs'"
complete -c rpub -n "__fish_rpub_using_subcommand fetch" -l insecure-registry -d 'Allow TLS with any certificate, or else plain HTTP, for this registry (repeatable)' -r
complete -c rpub -n "__fish_rpub_using_subcommand fetch" -l plain-http -d 'Reach this registry by plain HTTP (repeatable)' -r
complete -c rpub -n "__fish_rpub_using_subcommand fetch" -l skip-tls-verify -d 'Do not verify the certificate of this registry (repeatable)' -r
complete -c rpub -n "__fish_rpub_using_subcommand fetch" -l ca-file -d 'Also trust the certificate authorities in this PEM file (repeatable)' -r -F
complete -c rpub -n "__fish_rpub_using_subcommand fetch" -l cert-dir -d 'Use the authorities (*.crt) and client certificate (*.cert, *.key) in this directory' -r -F
complete -c rpub -n "__fish_rpub_using_subcommand fetch" -l registries-conf -d 'Read mirrors from this file [default: containers/registries.conf in ~/.config or /etc]' -r -F
complete -c rpub -n "__fish_rpub_using_subcommand fetch" -l retry-times -d 'Try a failed request so many times more [default: 4]' -r
complete -c rpub -n "__fish_rpub_using_subcommand fetch" -l retry-delay -d 'Wait so long before the first retry, twice as long before each further one [default: 500ms]' -r
complete -c rpub -n "__fish_rpub_using_subcommand fetch" -l max-wait -d 'Give up at once when a registry asks for a longer wait than this [default: 1m]' -r
complete -c rpub -n "__fish_rpub_using_subcommand fetch" -l idle-timeout -d 'Break off when a registry does nothing for so long [default: 90s]' -r
complete -c rpub -n "__fish_rpub_using_subcommand fetch" -l concurrency -d 'Move at most so many blobs at once each way [default: what the registry takes, up to 16]' -r
complete -c rpub -n "__fish_rpub_using_subcommand fetch" -l limit-rate -d 'Move at most so many bytes a second, both ways together, as in 5MB' -r
complete -c rpub -n "__fish_rpub_using_subcommand fetch" -l resolve -d 'Connect to this address for a registry\'s host and port (repeatable)' -r
complete -c rpub -n "__fish_rpub_using_subcommand fetch" -l http-header -d 'Send this header to registries; @FILE reads lines from a file (repeatable)' -r
complete -c rpub -n "__fish_rpub_using_subcommand fetch" -l user-agent-prefix -d 'Put this text before rpub\'s own in the user agent' -r
complete -c rpub -n "__fish_rpub_using_subcommand fetch" -l authfile -d 'Look for logins in this file only; login and logout change it' -r -F
complete -c rpub -n "__fish_rpub_using_subcommand fetch" -l src-authfile -d 'Look for logins for what is read from registries in this file only' -r -F
complete -c rpub -n "__fish_rpub_using_subcommand fetch" -l dest-authfile -d 'Look for logins for what is written to registries in this file only' -r -F
complete -c rpub -n "__fish_rpub_using_subcommand fetch" -l registry-token-file -d 'Send the bearer token in this file to this registry (repeatable)' -r
complete -c rpub -n "__fish_rpub_using_subcommand fetch" -l locked -d 'Fail when a base, URL or repository is not in the lock file'
complete -c rpub -n "__fish_rpub_using_subcommand fetch" -s q -l quiet -d 'Show no progress, print only the result'
complete -c rpub -n "__fish_rpub_using_subcommand fetch" -l offline -d 'Open no connection to anybody: what is here counts, as it was last seen'
complete -c rpub -n "__fish_rpub_using_subcommand fetch" -s h -l help -d 'Print help'
complete -c rpub -n "__fish_rpub_using_subcommand push" -l store -d 'Keep images, layers and the build cache here [default: ~/.local/share/rpub]' -r -F
complete -c rpub -n "__fish_rpub_using_subcommand push" -l cache-size -d 'Keep the build cache within this size [default: a fifth of the disk, 10 to 100 GiB]' -r
complete -c rpub -n "__fish_rpub_using_subcommand push" -l progress -d 'Show progress as auto, tty, plain, quiet or rawjson' -r -f -a "auto\t'Bars on a terminal, plain lines elsewhere'
tty\t'Bars'
plain\t'Numbered lines'
quiet\t'Nothing but warnings and errors'
rawjson\t'One JSON object a line, for programs'"
complete -c rpub -n "__fish_rpub_using_subcommand push" -l insecure-registry -d 'Allow TLS with any certificate, or else plain HTTP, for this registry (repeatable)' -r
complete -c rpub -n "__fish_rpub_using_subcommand push" -l plain-http -d 'Reach this registry by plain HTTP (repeatable)' -r
complete -c rpub -n "__fish_rpub_using_subcommand push" -l skip-tls-verify -d 'Do not verify the certificate of this registry (repeatable)' -r
complete -c rpub -n "__fish_rpub_using_subcommand push" -l ca-file -d 'Also trust the certificate authorities in this PEM file (repeatable)' -r -F
complete -c rpub -n "__fish_rpub_using_subcommand push" -l cert-dir -d 'Use the authorities (*.crt) and client certificate (*.cert, *.key) in this directory' -r -F
complete -c rpub -n "__fish_rpub_using_subcommand push" -l registries-conf -d 'Read mirrors from this file [default: containers/registries.conf in ~/.config or /etc]' -r -F
complete -c rpub -n "__fish_rpub_using_subcommand push" -l retry-times -d 'Try a failed request so many times more [default: 4]' -r
complete -c rpub -n "__fish_rpub_using_subcommand push" -l retry-delay -d 'Wait so long before the first retry, twice as long before each further one [default: 500ms]' -r
complete -c rpub -n "__fish_rpub_using_subcommand push" -l max-wait -d 'Give up at once when a registry asks for a longer wait than this [default: 1m]' -r
complete -c rpub -n "__fish_rpub_using_subcommand push" -l idle-timeout -d 'Break off when a registry does nothing for so long [default: 90s]' -r
complete -c rpub -n "__fish_rpub_using_subcommand push" -l concurrency -d 'Move at most so many blobs at once each way [default: what the registry takes, up to 16]' -r
complete -c rpub -n "__fish_rpub_using_subcommand push" -l limit-rate -d 'Move at most so many bytes a second, both ways together, as in 5MB' -r
complete -c rpub -n "__fish_rpub_using_subcommand push" -l resolve -d 'Connect to this address for a registry\'s host and port (repeatable)' -r
complete -c rpub -n "__fish_rpub_using_subcommand push" -l http-header -d 'Send this header to registries; @FILE reads lines from a file (repeatable)' -r
complete -c rpub -n "__fish_rpub_using_subcommand push" -l user-agent-prefix -d 'Put this text before rpub\'s own in the user agent' -r
complete -c rpub -n "__fish_rpub_using_subcommand push" -l authfile -d 'Look for logins in this file only; login and logout change it' -r -F
complete -c rpub -n "__fish_rpub_using_subcommand push" -l src-authfile -d 'Look for logins for what is read from registries in this file only' -r -F
complete -c rpub -n "__fish_rpub_using_subcommand push" -l dest-authfile -d 'Look for logins for what is written to registries in this file only' -r -F
complete -c rpub -n "__fish_rpub_using_subcommand push" -l registry-token-file -d 'Send the bearer token in this file to this registry (repeatable)' -r
complete -c rpub -n "__fish_rpub_using_subcommand push" -l include-external -d 'Also push layers that say where else they are, such as those of Windows'
complete -c rpub -n "__fish_rpub_using_subcommand push" -s q -l quiet -d 'Show no progress, print only the result'
complete -c rpub -n "__fish_rpub_using_subcommand push" -l offline -d 'Open no connection to anybody: what is here counts, as it was last seen'
complete -c rpub -n "__fish_rpub_using_subcommand push" -s h -l help -d 'Print help'
complete -c rpub -n "__fish_rpub_using_subcommand pull" -l platform -d 'Pull for this platform [default: this machine\'s]' -r
complete -c rpub -n "__fish_rpub_using_subcommand pull" -l store -d 'Keep images, layers and the build cache here [default: ~/.local/share/rpub]' -r -F
complete -c rpub -n "__fish_rpub_using_subcommand pull" -l cache-size -d 'Keep the build cache within this size [default: a fifth of the disk, 10 to 100 GiB]' -r
complete -c rpub -n "__fish_rpub_using_subcommand pull" -l progress -d 'Show progress as auto, tty, plain, quiet or rawjson' -r -f -a "auto\t'Bars on a terminal, plain lines elsewhere'
tty\t'Bars'
plain\t'Numbered lines'
quiet\t'Nothing but warnings and errors'
rawjson\t'One JSON object a line, for programs'"
complete -c rpub -n "__fish_rpub_using_subcommand pull" -l insecure-registry -d 'Allow TLS with any certificate, or else plain HTTP, for this registry (repeatable)' -r
complete -c rpub -n "__fish_rpub_using_subcommand pull" -l plain-http -d 'Reach this registry by plain HTTP (repeatable)' -r
complete -c rpub -n "__fish_rpub_using_subcommand pull" -l skip-tls-verify -d 'Do not verify the certificate of this registry (repeatable)' -r
complete -c rpub -n "__fish_rpub_using_subcommand pull" -l ca-file -d 'Also trust the certificate authorities in this PEM file (repeatable)' -r -F
complete -c rpub -n "__fish_rpub_using_subcommand pull" -l cert-dir -d 'Use the authorities (*.crt) and client certificate (*.cert, *.key) in this directory' -r -F
complete -c rpub -n "__fish_rpub_using_subcommand pull" -l registries-conf -d 'Read mirrors from this file [default: containers/registries.conf in ~/.config or /etc]' -r -F
complete -c rpub -n "__fish_rpub_using_subcommand pull" -l retry-times -d 'Try a failed request so many times more [default: 4]' -r
complete -c rpub -n "__fish_rpub_using_subcommand pull" -l retry-delay -d 'Wait so long before the first retry, twice as long before each further one [default: 500ms]' -r
complete -c rpub -n "__fish_rpub_using_subcommand pull" -l max-wait -d 'Give up at once when a registry asks for a longer wait than this [default: 1m]' -r
complete -c rpub -n "__fish_rpub_using_subcommand pull" -l idle-timeout -d 'Break off when a registry does nothing for so long [default: 90s]' -r
complete -c rpub -n "__fish_rpub_using_subcommand pull" -l concurrency -d 'Move at most so many blobs at once each way [default: what the registry takes, up to 16]' -r
complete -c rpub -n "__fish_rpub_using_subcommand pull" -l limit-rate -d 'Move at most so many bytes a second, both ways together, as in 5MB' -r
complete -c rpub -n "__fish_rpub_using_subcommand pull" -l resolve -d 'Connect to this address for a registry\'s host and port (repeatable)' -r
complete -c rpub -n "__fish_rpub_using_subcommand pull" -l http-header -d 'Send this header to registries; @FILE reads lines from a file (repeatable)' -r
complete -c rpub -n "__fish_rpub_using_subcommand pull" -l user-agent-prefix -d 'Put this text before rpub\'s own in the user agent' -r
complete -c rpub -n "__fish_rpub_using_subcommand pull" -l authfile -d 'Look for logins in this file only; login and logout change it' -r -F
complete -c rpub -n "__fish_rpub_using_subcommand pull" -l src-authfile -d 'Look for logins for what is read from registries in this file only' -r -F
complete -c rpub -n "__fish_rpub_using_subcommand pull" -l dest-authfile -d 'Look for logins for what is written to registries in this file only' -r -F
complete -c rpub -n "__fish_rpub_using_subcommand pull" -l registry-token-file -d 'Send the bearer token in this file to this registry (repeatable)' -r
complete -c rpub -n "__fish_rpub_using_subcommand pull" -s q -l quiet -d 'Show no progress, print only the result'
complete -c rpub -n "__fish_rpub_using_subcommand pull" -l offline -d 'Open no connection to anybody: what is here counts, as it was last seen'
complete -c rpub -n "__fish_rpub_using_subcommand pull" -s h -l help -d 'Print help'
complete -c rpub -n "__fish_rpub_using_subcommand images" -s f -l filter -d 'Show only images with dangling=BOOL or reference=PATTERN (repeatable)' -r
complete -c rpub -n "__fish_rpub_using_subcommand images" -l format -d 'Print json, the template given, or with table before it a table: \'table {{.ID}}\'' -r
complete -c rpub -n "__fish_rpub_using_subcommand images" -l store -d 'Keep images, layers and the build cache here [default: ~/.local/share/rpub]' -r -F
complete -c rpub -n "__fish_rpub_using_subcommand images" -l cache-size -d 'Keep the build cache within this size [default: a fifth of the disk, 10 to 100 GiB]' -r
complete -c rpub -n "__fish_rpub_using_subcommand images" -l progress -d 'Show progress as auto, tty, plain, quiet or rawjson' -r -f -a "auto\t'Bars on a terminal, plain lines elsewhere'
tty\t'Bars'
plain\t'Numbered lines'
quiet\t'Nothing but warnings and errors'
rawjson\t'One JSON object a line, for programs'"
complete -c rpub -n "__fish_rpub_using_subcommand images" -l insecure-registry -d 'Allow TLS with any certificate, or else plain HTTP, for this registry (repeatable)' -r
complete -c rpub -n "__fish_rpub_using_subcommand images" -l plain-http -d 'Reach this registry by plain HTTP (repeatable)' -r
complete -c rpub -n "__fish_rpub_using_subcommand images" -l skip-tls-verify -d 'Do not verify the certificate of this registry (repeatable)' -r
complete -c rpub -n "__fish_rpub_using_subcommand images" -l ca-file -d 'Also trust the certificate authorities in this PEM file (repeatable)' -r -F
complete -c rpub -n "__fish_rpub_using_subcommand images" -l cert-dir -d 'Use the authorities (*.crt) and client certificate (*.cert, *.key) in this directory' -r -F
complete -c rpub -n "__fish_rpub_using_subcommand images" -l registries-conf -d 'Read mirrors from this file [default: containers/registries.conf in ~/.config or /etc]' -r -F
complete -c rpub -n "__fish_rpub_using_subcommand images" -l retry-times -d 'Try a failed request so many times more [default: 4]' -r
complete -c rpub -n "__fish_rpub_using_subcommand images" -l retry-delay -d 'Wait so long before the first retry, twice as long before each further one [default: 500ms]' -r
complete -c rpub -n "__fish_rpub_using_subcommand images" -l max-wait -d 'Give up at once when a registry asks for a longer wait than this [default: 1m]' -r
complete -c rpub -n "__fish_rpub_using_subcommand images" -l idle-timeout -d 'Break off when a registry does nothing for so long [default: 90s]' -r
complete -c rpub -n "__fish_rpub_using_subcommand images" -l concurrency -d 'Move at most so many blobs at once each way [default: what the registry takes, up to 16]' -r
complete -c rpub -n "__fish_rpub_using_subcommand images" -l limit-rate -d 'Move at most so many bytes a second, both ways together, as in 5MB' -r
complete -c rpub -n "__fish_rpub_using_subcommand images" -l resolve -d 'Connect to this address for a registry\'s host and port (repeatable)' -r
complete -c rpub -n "__fish_rpub_using_subcommand images" -l http-header -d 'Send this header to registries; @FILE reads lines from a file (repeatable)' -r
complete -c rpub -n "__fish_rpub_using_subcommand images" -l user-agent-prefix -d 'Put this text before rpub\'s own in the user agent' -r
complete -c rpub -n "__fish_rpub_using_subcommand images" -l authfile -d 'Look for logins in this file only; login and logout change it' -r -F
complete -c rpub -n "__fish_rpub_using_subcommand images" -l src-authfile -d 'Look for logins for what is read from registries in this file only' -r -F
complete -c rpub -n "__fish_rpub_using_subcommand images" -l dest-authfile -d 'Look for logins for what is written to registries in this file only' -r -F
complete -c rpub -n "__fish_rpub_using_subcommand images" -l registry-token-file -d 'Send the bearer token in this file to this registry (repeatable)' -r
complete -c rpub -n "__fish_rpub_using_subcommand images" -s a -l all -d 'Show all images (rpub hides none)'
complete -c rpub -n "__fish_rpub_using_subcommand images" -l digests -d 'Show manifest digests'
complete -c rpub -n "__fish_rpub_using_subcommand images" -l no-trunc -d 'Do not shorten ids'
complete -c rpub -n "__fish_rpub_using_subcommand images" -s q -l quiet -d 'Show no progress, print only the result'
complete -c rpub -n "__fish_rpub_using_subcommand images" -l offline -d 'Open no connection to anybody: what is here counts, as it was last seen'
complete -c rpub -n "__fish_rpub_using_subcommand images" -s h -l help -d 'Print help'
complete -c rpub -n "__fish_rpub_using_subcommand image; and not __fish_seen_subcommand_from build ls list pull push tag rm remove inspect history import save load help" -l store -d 'Keep images, layers and the build cache here [default: ~/.local/share/rpub]' -r -F
complete -c rpub -n "__fish_rpub_using_subcommand image; and not __fish_seen_subcommand_from build ls list pull push tag rm remove inspect history import save load help" -l cache-size -d 'Keep the build cache within this size [default: a fifth of the disk, 10 to 100 GiB]' -r
complete -c rpub -n "__fish_rpub_using_subcommand image; and not __fish_seen_subcommand_from build ls list pull push tag rm remove inspect history import save load help" -l progress -d 'Show progress as auto, tty, plain, quiet or rawjson' -r -f -a "auto\t'Bars on a terminal, plain lines elsewhere'
tty\t'Bars'
plain\t'Numbered lines'
quiet\t'Nothing but warnings and errors'
rawjson\t'One JSON object a line, for programs'"
complete -c rpub -n "__fish_rpub_using_subcommand image; and not __fish_seen_subcommand_from build ls list pull push tag rm remove inspect history import save load help" -l insecure-registry -d 'Allow TLS with any certificate, or else plain HTTP, for this registry (repeatable)' -r
complete -c rpub -n "__fish_rpub_using_subcommand image; and not __fish_seen_subcommand_from build ls list pull push tag rm remove inspect history import save load help" -l plain-http -d 'Reach this registry by plain HTTP (repeatable)' -r
complete -c rpub -n "__fish_rpub_using_subcommand image; and not __fish_seen_subcommand_from build ls list pull push tag rm remove inspect history import save load help" -l skip-tls-verify -d 'Do not verify the certificate of this registry (repeatable)' -r
complete -c rpub -n "__fish_rpub_using_subcommand image; and not __fish_seen_subcommand_from build ls list pull push tag rm remove inspect history import save load help" -l ca-file -d 'Also trust the certificate authorities in this PEM file (repeatable)' -r -F
complete -c rpub -n "__fish_rpub_using_subcommand image; and not __fish_seen_subcommand_from build ls list pull push tag rm remove inspect history import save load help" -l cert-dir -d 'Use the authorities (*.crt) and client certificate (*.cert, *.key) in this directory' -r -F
complete -c rpub -n "__fish_rpub_using_subcommand image; and not __fish_seen_subcommand_from build ls list pull push tag rm remove inspect history import save load help" -l registries-conf -d 'Read mirrors from this file [default: containers/registries.conf in ~/.config or /etc]' -r -F
complete -c rpub -n "__fish_rpub_using_subcommand image; and not __fish_seen_subcommand_from build ls list pull push tag rm remove inspect history import save load help" -l retry-times -d 'Try a failed request so many times more [default: 4]' -r
complete -c rpub -n "__fish_rpub_using_subcommand image; and not __fish_seen_subcommand_from build ls list pull push tag rm remove inspect history import save load help" -l retry-delay -d 'Wait so long before the first retry, twice as long before each further one [default: 500ms]' -r
complete -c rpub -n "__fish_rpub_using_subcommand image; and not __fish_seen_subcommand_from build ls list pull push tag rm remove inspect history import save load help" -l max-wait -d 'Give up at once when a registry asks for a longer wait than this [default: 1m]' -r
complete -c rpub -n "__fish_rpub_using_subcommand image; and not __fish_seen_subcommand_from build ls list pull push tag rm remove inspect history import save load help" -l idle-timeout -d 'Break off when a registry does nothing for so long [default: 90s]' -r
complete -c rpub -n "__fish_rpub_using_subcommand image; and not __fish_seen_subcommand_from build ls list pull push tag rm remove inspect history import save load help" -l concurrency -d 'Move at most so many blobs at once each way [default: what the registry takes, up to 16]' -r
complete -c rpub -n "__fish_rpub_using_subcommand image; and not __fish_seen_subcommand_from build ls list pull push tag rm remove inspect history import save load help" -l limit-rate -d 'Move at most so many bytes a second, both ways together, as in 5MB' -r
complete -c rpub -n "__fish_rpub_using_subcommand image; and not __fish_seen_subcommand_from build ls list pull push tag rm remove inspect history import save load help" -l resolve -d 'Connect to this address for a registry\'s host and port (repeatable)' -r
complete -c rpub -n "__fish_rpub_using_subcommand image; and not __fish_seen_subcommand_from build ls list pull push tag rm remove inspect history import save load help" -l http-header -d 'Send this header to registries; @FILE reads lines from a file (repeatable)' -r
complete -c rpub -n "__fish_rpub_using_subcommand image; and not __fish_seen_subcommand_from build ls list pull push tag rm remove inspect history import save load help" -l user-agent-prefix -d 'Put this text before rpub\'s own in the user agent' -r
complete -c rpub -n "__fish_rpub_using_subcommand image; and not __fish_seen_subcommand_from build ls list pull push tag rm remove inspect history import save load help" -l authfile -d 'Look for logins in this file only; login and logout change it' -r -F
complete -c rpub -n "__fish_rpub_using_subcommand image; and not __fish_seen_subcommand_from build ls list pull push tag rm remove inspect history import save load help" -l src-authfile -d 'Look for logins for what is read from registries in this file only' -r -F
complete -c rpub -n "__fish_rpub_using_subcommand image; and not __fish_seen_subcommand_from build ls list pull push tag rm remove inspect history import save load help" -l dest-authfile -d 'Look for logins for what is written to registries in this file only' -r -F
complete -c rpub -n "__fish_rpub_using_subcommand image; and not __fish_seen_subcommand_from build ls list pull push tag rm remove inspect history import save load help" -l registry-token-file -d 'Send the bearer token in this file to this registry (repeatable)' -r
complete -c rpub -n "__fish_rpub_using_subcommand image; and not __fish_seen_subcommand_from build ls list pull push tag rm remove inspect history import save load help" -s q -l quiet -d 'Show no progress, print only the result'
complete -c rpub -n "__fish_rpub_using_subcommand image; and not __fish_seen_subcommand_from build ls list pull push tag rm remove inspect history import save load help" -l offline -d 'Open no connection to anybody: what is here counts, as it was last seen'
complete -c rpub -n "__fish_rpub_using_subcommand image; and not __fish_seen_subcommand_from build ls list pull push tag rm remove inspect history import save load help" -s h -l help -d 'Print help'
complete -c rpub -n "__fish_rpub_using_subcommand image; and not __fish_seen_subcommand_from build ls list pull push tag rm remove inspect history import save load help" -f -a "build" -d 'Build an image from a Dockerfile'
complete -c rpub -n "__fish_rpub_using_subcommand image; and not __fish_seen_subcommand_from build ls list pull push tag rm remove inspect history import save load help" -f -a "ls" -d 'List images'
complete -c rpub -n "__fish_rpub_using_subcommand image; and not __fish_seen_subcommand_from build ls list pull push tag rm remove inspect history import save load help" -f -a "list" -d 'List images'
complete -c rpub -n "__fish_rpub_using_subcommand image; and not __fish_seen_subcommand_from build ls list pull push tag rm remove inspect history import save load help" -f -a "pull" -d 'Pull an image into the store'
complete -c rpub -n "__fish_rpub_using_subcommand image; and not __fish_seen_subcommand_from build ls list pull push tag rm remove inspect history import save load help" -f -a "push" -d 'Push an image from the store to its registry'
complete -c rpub -n "__fish_rpub_using_subcommand image; and not __fish_seen_subcommand_from build ls list pull push tag rm remove inspect history import save load help" -f -a "tag" -d 'Give an image another name'
complete -c rpub -n "__fish_rpub_using_subcommand image; and not __fish_seen_subcommand_from build ls list pull push tag rm remove inspect history import save load help" -f -a "rm" -d 'Remove names and images'
complete -c rpub -n "__fish_rpub_using_subcommand image; and not __fish_seen_subcommand_from build ls list pull push tag rm remove inspect history import save load help" -f -a "remove" -d 'Remove names and images'
complete -c rpub -n "__fish_rpub_using_subcommand image; and not __fish_seen_subcommand_from build ls list pull push tag rm remove inspect history import save load help" -f -a "inspect" -d 'Show everything about an image'
complete -c rpub -n "__fish_rpub_using_subcommand image; and not __fish_seen_subcommand_from build ls list pull push tag rm remove inspect history import save load help" -f -a "history" -d 'Show what made each layer of an image'
complete -c rpub -n "__fish_rpub_using_subcommand image; and not __fish_seen_subcommand_from build ls list pull push tag rm remove inspect history import save load help" -f -a "import" -d 'Make an image from a root file system tar or directory'
complete -c rpub -n "__fish_rpub_using_subcommand image; and not __fish_seen_subcommand_from build ls list pull push tag rm remove inspect history import save load help" -f -a "save" -d 'Write images of the store to a file, as docker save does'
complete -c rpub -n "__fish_rpub_using_subcommand image; and not __fish_seen_subcommand_from build ls list pull push tag rm remove inspect history import save load help" -f -a "load" -d 'Read the images of a file into the store, as docker load does'
complete -c rpub -n "__fish_rpub_using_subcommand image; and not __fish_seen_subcommand_from build ls list pull push tag rm remove inspect history import save load help" -f -a "help" -d 'Print this message or the help of the given subcommand(s)'
complete -c rpub -n "__fish_rpub_using_subcommand image; and __fish_seen_subcommand_from build" -s t -l tag -d 'Name the image, with the tag latest unless one is given (repeatable)' -r
complete -c rpub -n "__fish_rpub_using_subcommand image; and __fish_seen_subcommand_from build" -l build-context -d 'Add a context for FROM and COPY --from: a directory, docker-image://REFERENCE, oci-layout://DIRECTORY[:TAG|@DIGEST], a git or http(s) URL (repeatable)' -r
complete -c rpub -n "__fish_rpub_using_subcommand image; and __fish_seen_subcommand_from build" -s f -l file -d 'Read this Dockerfile, a URL, or - for standard input [default: PATH/Dockerfile]' -r -F
complete -c rpub -n "__fish_rpub_using_subcommand image; and __fish_seen_subcommand_from build" -l build-arg -d 'Set a build argument, from the environment if it has no value (repeatable)' -r
complete -c rpub -n "__fish_rpub_using_subcommand image; and __fish_seen_subcommand_from build" -l build-arg-file -d 'Read build arguments from this file, a line each; --build-arg wins (repeatable)' -r -F
complete -c rpub -n "__fish_rpub_using_subcommand image; and __fish_seen_subcommand_from build" -l target -d 'Stop at this stage' -r
complete -c rpub -n "__fish_rpub_using_subcommand image; and __fish_seen_subcommand_from build" -l lock-file -d 'Take bases by the digests in this file [default: rpub.lock beside the Dockerfile]' -r -F
complete -c rpub -n "__fish_rpub_using_subcommand image; and __fish_seen_subcommand_from build" -l platform -d 'Build for these platforms, separated by commas [default: this machine\'s]' -r
complete -c rpub -n "__fish_rpub_using_subcommand image; and __fish_seen_subcommand_from build" -l label -d 'Add a label to the image (repeatable)' -r
complete -c rpub -n "__fish_rpub_using_subcommand image; and __fish_seen_subcommand_from build" -l no-cache-filter -d 'Run every step of this stage, though its result is in the cache (repeatable)' -r
complete -c rpub -n "__fish_rpub_using_subcommand image; and __fish_seen_subcommand_from build" -l cache-from -d 'Look results up there: a repository, or type=registry,ref=... or type=local,src=... (repeatable)' -r
complete -c rpub -n "__fish_rpub_using_subcommand image; and __fish_seen_subcommand_from build" -l cache-to -d 'Keep results there: type=registry,ref=..., type=local,dest=... or type=inline; with mode=max of all stages (repeatable)' -r
complete -c rpub -n "__fish_rpub_using_subcommand image; and __fish_seen_subcommand_from build" -l pull -d 'Ask the registry for base images always (--pull alone), if missing, or never' -r -f -a "always\t'Always ask whether the tag has moved'
missing\t'Ask only for what the store lacks'
never\t'Never ask'"
complete -c rpub -n "__fish_rpub_using_subcommand image; and __fish_seen_subcommand_from build" -l network -d 'Give RUN steps this network: default (the host\'s), host or none' -r
complete -c rpub -n "__fish_rpub_using_subcommand image; and __fish_seen_subcommand_from build" -l add-host -d 'Add a line to /etc/hosts of RUN steps; host-gateway means this machine (repeatable)' -r
complete -c rpub -n "__fish_rpub_using_subcommand image; and __fish_seen_subcommand_from build" -l allow -d 'Let the Dockerfile use network.host or security.insecure (repeatable)' -r
complete -c rpub -n "__fish_rpub_using_subcommand image; and __fish_seen_subcommand_from build" -l secret -d 'Give a secret to RUN --mount=type=secret: a file, or a variable (repeatable)' -r
complete -c rpub -n "__fish_rpub_using_subcommand image; and __fish_seen_subcommand_from build" -l ssh -d 'Give an ssh agent to RUN --mount=type=ssh: SSH_AUTH_SOCK\'s, or by socket or keys (repeatable)' -r
complete -c rpub -n "__fish_rpub_using_subcommand image; and __fish_seen_subcommand_from build" -l shm-size -d 'Set the size of /dev/shm of RUN steps, such as 128m [default: 64m]' -r
complete -c rpub -n "__fish_rpub_using_subcommand image; and __fish_seen_subcommand_from build" -l ulimit -d 'Set a resource limit of RUN steps, as far as it may be raised (repeatable)' -r
complete -c rpub -n "__fish_rpub_using_subcommand image; and __fish_seen_subcommand_from build" -l rm -r
complete -c rpub -n "__fish_rpub_using_subcommand image; and __fish_seen_subcommand_from build" -l force-rm -r
complete -c rpub -n "__fish_rpub_using_subcommand image; and __fish_seen_subcommand_from build" -l compress -r
complete -c rpub -n "__fish_rpub_using_subcommand image; and __fish_seen_subcommand_from build" -s m -l memory -r
complete -c rpub -n "__fish_rpub_using_subcommand image; and __fish_seen_subcommand_from build" -l memory-swap -r
complete -c rpub -n "__fish_rpub_using_subcommand image; and __fish_seen_subcommand_from build" -s c -l cpu-shares -r
complete -c rpub -n "__fish_rpub_using_subcommand image; and __fish_seen_subcommand_from build" -l cpu-period -r
complete -c rpub -n "__fish_rpub_using_subcommand image; and __fish_seen_subcommand_from build" -l cpu-quota -r
complete -c rpub -n "__fish_rpub_using_subcommand image; and __fish_seen_subcommand_from build" -l cpuset-cpus -r
complete -c rpub -n "__fish_rpub_using_subcommand image; and __fish_seen_subcommand_from build" -l cpuset-mems -r
complete -c rpub -n "__fish_rpub_using_subcommand image; and __fish_seen_subcommand_from build" -l cgroup-parent -r
complete -c rpub -n "__fish_rpub_using_subcommand image; and __fish_seen_subcommand_from build" -l isolation -r
complete -c rpub -n "__fish_rpub_using_subcommand image; and __fish_seen_subcommand_from build" -l security-opt -r
complete -c rpub -n "__fish_rpub_using_subcommand image; and __fish_seen_subcommand_from build" -s o -l output -d 'Write the result as well or instead: a directory, - for a tar on standard output, or type=local|tar|oci|docker|image|registry[,dest=PATH][,KEY=VALUE...] (repeatable)' -r
complete -c rpub -n "__fish_rpub_using_subcommand image; and __fish_seen_subcommand_from build" -l annotation -d 'Add an annotation; TYPE is manifest, index, manifest-descriptor or index-descriptor' -r
complete -c rpub -n "__fish_rpub_using_subcommand image; and __fish_seen_subcommand_from build" -l iidfile -d 'Write the image id to this file' -r -F
complete -c rpub -n "__fish_rpub_using_subcommand image; and __fish_seen_subcommand_from build" -l metadata-file -d 'Write names and digests to this file as JSON, with buildx\'s keys' -r -F
complete -c rpub -n "__fish_rpub_using_subcommand image; and __fish_seen_subcommand_from build" -l call -d 'Answer instead of building: check, outline, targets or subrequests.describe, and ,format=json' -r
complete -c rpub -n "__fish_rpub_using_subcommand image; and __fish_seen_subcommand_from build" -l store -d 'Keep images, layers and the build cache here [default: ~/.local/share/rpub]' -r -F
complete -c rpub -n "__fish_rpub_using_subcommand image; and __fish_seen_subcommand_from build" -l cache-size -d 'Keep the build cache within this size [default: a fifth of the disk, 10 to 100 GiB]' -r
complete -c rpub -n "__fish_rpub_using_subcommand image; and __fish_seen_subcommand_from build" -l progress -d 'Show progress as auto, tty, plain, quiet or rawjson' -r -f -a "auto\t'Bars on a terminal, plain lines elsewhere'
tty\t'Bars'
plain\t'Numbered lines'
quiet\t'Nothing but warnings and errors'
rawjson\t'One JSON object a line, for programs'"
complete -c rpub -n "__fish_rpub_using_subcommand image; and __fish_seen_subcommand_from build" -l insecure-registry -d 'Allow TLS with any certificate, or else plain HTTP, for this registry (repeatable)' -r
complete -c rpub -n "__fish_rpub_using_subcommand image; and __fish_seen_subcommand_from build" -l plain-http -d 'Reach this registry by plain HTTP (repeatable)' -r
complete -c rpub -n "__fish_rpub_using_subcommand image; and __fish_seen_subcommand_from build" -l skip-tls-verify -d 'Do not verify the certificate of this registry (repeatable)' -r
complete -c rpub -n "__fish_rpub_using_subcommand image; and __fish_seen_subcommand_from build" -l ca-file -d 'Also trust the certificate authorities in this PEM file (repeatable)' -r -F
complete -c rpub -n "__fish_rpub_using_subcommand image; and __fish_seen_subcommand_from build" -l cert-dir -d 'Use the authorities (*.crt) and client certificate (*.cert, *.key) in this directory' -r -F
complete -c rpub -n "__fish_rpub_using_subcommand image; and __fish_seen_subcommand_from build" -l registries-conf -d 'Read mirrors from this file [default: containers/registries.conf in ~/.config or /etc]' -r -F
complete -c rpub -n "__fish_rpub_using_subcommand image; and __fish_seen_subcommand_from build" -l retry-times -d 'Try a failed request so many times more [default: 4]' -r
complete -c rpub -n "__fish_rpub_using_subcommand image; and __fish_seen_subcommand_from build" -l retry-delay -d 'Wait so long before the first retry, twice as long before each further one [default: 500ms]' -r
complete -c rpub -n "__fish_rpub_using_subcommand image; and __fish_seen_subcommand_from build" -l max-wait -d 'Give up at once when a registry asks for a longer wait than this [default: 1m]' -r
complete -c rpub -n "__fish_rpub_using_subcommand image; and __fish_seen_subcommand_from build" -l idle-timeout -d 'Break off when a registry does nothing for so long [default: 90s]' -r
complete -c rpub -n "__fish_rpub_using_subcommand image; and __fish_seen_subcommand_from build" -l concurrency -d 'Move at most so many blobs at once each way [default: what the registry takes, up to 16]' -r
complete -c rpub -n "__fish_rpub_using_subcommand image; and __fish_seen_subcommand_from build" -l limit-rate -d 'Move at most so many bytes a second, both ways together, as in 5MB' -r
complete -c rpub -n "__fish_rpub_using_subcommand image; and __fish_seen_subcommand_from build" -l resolve -d 'Connect to this address for a registry\'s host and port (repeatable)' -r
complete -c rpub -n "__fish_rpub_using_subcommand image; and __fish_seen_subcommand_from build" -l http-header -d 'Send this header to registries; @FILE reads lines from a file (repeatable)' -r
complete -c rpub -n "__fish_rpub_using_subcommand image; and __fish_seen_subcommand_from build" -l user-agent-prefix -d 'Put this text before rpub\'s own in the user agent' -r
complete -c rpub -n "__fish_rpub_using_subcommand image; and __fish_seen_subcommand_from build" -l authfile -d 'Look for logins in this file only; login and logout change it' -r -F
complete -c rpub -n "__fish_rpub_using_subcommand image; and __fish_seen_subcommand_from build" -l src-authfile -d 'Look for logins for what is read from registries in this file only' -r -F
complete -c rpub -n "__fish_rpub_using_subcommand image; and __fish_seen_subcommand_from build" -l dest-authfile -d 'Look for logins for what is written to registries in this file only' -r -F
complete -c rpub -n "__fish_rpub_using_subcommand image; and __fish_seen_subcommand_from build" -l registry-token-file -d 'Send the bearer token in this file to this registry (repeatable)' -r
complete -c rpub -n "__fish_rpub_using_subcommand image; and __fish_seen_subcommand_from build" -l locked -d 'Fail when a base, URL or repository is not in the lock file'
complete -c rpub -n "__fish_rpub_using_subcommand image; and __fish_seen_subcommand_from build" -l no-cache -d 'Run every step, though its result is in the cache'
complete -c rpub -n "__fish_rpub_using_subcommand image; and __fish_seen_subcommand_from build" -l explain -d 'Say of each step that runs what differs from the nearest earlier result'
complete -c rpub -n "__fish_rpub_using_subcommand image; and __fish_seen_subcommand_from build" -l shell-on-error -d 'Open a shell where a step fails, with its files, mounts and environment; then fail'
complete -c rpub -n "__fish_rpub_using_subcommand image; and __fish_seen_subcommand_from build" -l load -d 'Keep the image in the store though there are other outputs'
complete -c rpub -n "__fish_rpub_using_subcommand image; and __fish_seen_subcommand_from build" -l squash -d 'Make one layer of all that the steps made'
complete -c rpub -n "__fish_rpub_using_subcommand image; and __fish_seen_subcommand_from build" -l reproducible -d 'Make the same image of the same input, on any machine at any time'
complete -c rpub -n "__fish_rpub_using_subcommand image; and __fish_seen_subcommand_from build" -l check -d 'Check the Dockerfile and build nothing, as --call=check does'
complete -c rpub -n "__fish_rpub_using_subcommand image; and __fish_seen_subcommand_from build" -l push -d 'Push as well, as build-push does'
complete -c rpub -n "__fish_rpub_using_subcommand image; and __fish_seen_subcommand_from build" -s q -l quiet -d 'Show no progress, print only the result'
complete -c rpub -n "__fish_rpub_using_subcommand image; and __fish_seen_subcommand_from build" -l offline -d 'Open no connection to anybody: what is here counts, as it was last seen'
complete -c rpub -n "__fish_rpub_using_subcommand image; and __fish_seen_subcommand_from build" -s h -l help -d 'Print help'
complete -c rpub -n "__fish_rpub_using_subcommand image; and __fish_seen_subcommand_from ls" -s f -l filter -d 'Show only images with dangling=BOOL or reference=PATTERN (repeatable)' -r
complete -c rpub -n "__fish_rpub_using_subcommand image; and __fish_seen_subcommand_from ls" -l format -d 'Print json, the template given, or with table before it a table: \'table {{.ID}}\'' -r
complete -c rpub -n "__fish_rpub_using_subcommand image; and __fish_seen_subcommand_from ls" -l store -d 'Keep images, layers and the build cache here [default: ~/.local/share/rpub]' -r -F
complete -c rpub -n "__fish_rpub_using_subcommand image; and __fish_seen_subcommand_from ls" -l cache-size -d 'Keep the build cache within this size [default: a fifth of the disk, 10 to 100 GiB]' -r
complete -c rpub -n "__fish_rpub_using_subcommand image; and __fish_seen_subcommand_from ls" -l progress -d 'Show progress as auto, tty, plain, quiet or rawjson' -r -f -a "auto\t'Bars on a terminal, plain lines elsewhere'
tty\t'Bars'
plain\t'Numbered lines'
quiet\t'Nothing but warnings and errors'
rawjson\t'One JSON object a line, for programs'"
complete -c rpub -n "__fish_rpub_using_subcommand image; and __fish_seen_subcommand_from ls" -l insecure-registry -d 'Allow TLS with any certificate, or else plain HTTP, for this registry (repeatable)' -r
complete -c rpub -n "__fish_rpub_using_subcommand image; and __fish_seen_subcommand_from ls" -l plain-http -d 'Reach this registry by plain HTTP (repeatable)' -r
complete -c rpub -n "__fish_rpub_using_subcommand image; and __fish_seen_subcommand_from ls" -l skip-tls-verify -d 'Do not verify the certificate of this registry (repeatable)' -r
complete -c rpub -n "__fish_rpub_using_subcommand image; and __fish_seen_subcommand_from ls" -l ca-file -d 'Also trust the certificate authorities in this PEM file (repeatable)' -r -F
complete -c rpub -n "__fish_rpub_using_subcommand image; and __fish_seen_subcommand_from ls" -l cert-dir -d 'Use the authorities (*.crt) and client certificate (*.cert, *.key) in this directory' -r -F
complete -c rpub -n "__fish_rpub_using_subcommand image; and __fish_seen_subcommand_from ls" -l registries-conf -d 'Read mirrors from this file [default: containers/registries.conf in ~/.config or /etc]' -r -F
complete -c rpub -n "__fish_rpub_using_subcommand image; and __fish_seen_subcommand_from ls" -l retry-times -d 'Try a failed request so many times more [default: 4]' -r
complete -c rpub -n "__fish_rpub_using_subcommand image; and __fish_seen_subcommand_from ls" -l retry-delay -d 'Wait so long before the first retry, twice as long before each further one [default: 500ms]' -r
complete -c rpub -n "__fish_rpub_using_subcommand image; and __fish_seen_subcommand_from ls" -l max-wait -d 'Give up at once when a registry asks for a longer wait than this [default: 1m]' -r
complete -c rpub -n "__fish_rpub_using_subcommand image; and __fish_seen_subcommand_from ls" -l idle-timeout -d 'Break off when a registry does nothing for so long [default: 90s]' -r
complete -c rpub -n "__fish_rpub_using_subcommand image; and __fish_seen_subcommand_from ls" -l concurrency -d 'Move at most so many blobs at once each way [default: what the registry takes, up to 16]' -r
complete -c rpub -n "__fish_rpub_using_subcommand image; and __fish_seen_subcommand_from ls" -l limit-rate -d 'Move at most so many bytes a second, both ways together, as in 5MB' -r
complete -c rpub -n "__fish_rpub_using_subcommand image; and __fish_seen_subcommand_from ls" -l resolve -d 'Connect to this address for a registry\'s host and port (repeatable)' -r
complete -c rpub -n "__fish_rpub_using_subcommand image; and __fish_seen_subcommand_from ls" -l http-header -d 'Send this header to registries; @FILE reads lines from a file (repeatable)' -r
complete -c rpub -n "__fish_rpub_using_subcommand image; and __fish_seen_subcommand_from ls" -l user-agent-prefix -d 'Put this text before rpub\'s own in the user agent' -r
complete -c rpub -n "__fish_rpub_using_subcommand image; and __fish_seen_subcommand_from ls" -l authfile -d 'Look for logins in this file only; login and logout change it' -r -F
complete -c rpub -n "__fish_rpub_using_subcommand image; and __fish_seen_subcommand_from ls" -l src-authfile -d 'Look for logins for what is read from registries in this file only' -r -F
complete -c rpub -n "__fish_rpub_using_subcommand image; and __fish_seen_subcommand_from ls" -l dest-authfile -d 'Look for logins for what is written to registries in this file only' -r -F
complete -c rpub -n "__fish_rpub_using_subcommand image; and __fish_seen_subcommand_from ls" -l registry-token-file -d 'Send the bearer token in this file to this registry (repeatable)' -r
complete -c rpub -n "__fish_rpub_using_subcommand image; and __fish_seen_subcommand_from ls" -s a -l all -d 'Show all images (rpub hides none)'
complete -c rpub -n "__fish_rpub_using_subcommand image; and __fish_seen_subcommand_from ls" -l digests -d 'Show manifest digests'
complete -c rpub -n "__fish_rpub_using_subcommand image; and __fish_seen_subcommand_from ls" -l no-trunc -d 'Do not shorten ids'
complete -c rpub -n "__fish_rpub_using_subcommand image; and __fish_seen_subcommand_from ls" -s q -l quiet -d 'Show no progress, print only the result'
complete -c rpub -n "__fish_rpub_using_subcommand image; and __fish_seen_subcommand_from ls" -l offline -d 'Open no connection to anybody: what is here counts, as it was last seen'
complete -c rpub -n "__fish_rpub_using_subcommand image; and __fish_seen_subcommand_from ls" -s h -l help -d 'Print help'
complete -c rpub -n "__fish_rpub_using_subcommand image; and __fish_seen_subcommand_from list" -s f -l filter -d 'Show only images with dangling=BOOL or reference=PATTERN (repeatable)' -r
complete -c rpub -n "__fish_rpub_using_subcommand image; and __fish_seen_subcommand_from list" -l format -d 'Print json, the template given, or with table before it a table: \'table {{.ID}}\'' -r
complete -c rpub -n "__fish_rpub_using_subcommand image; and __fish_seen_subcommand_from list" -l store -d 'Keep images, layers and the build cache here [default: ~/.local/share/rpub]' -r -F
complete -c rpub -n "__fish_rpub_using_subcommand image; and __fish_seen_subcommand_from list" -l cache-size -d 'Keep the build cache within this size [default: a fifth of the disk, 10 to 100 GiB]' -r
complete -c rpub -n "__fish_rpub_using_subcommand image; and __fish_seen_subcommand_from list" -l progress -d 'Show progress as auto, tty, plain, quiet or rawjson' -r -f -a "auto\t'Bars on a terminal, plain lines elsewhere'
tty\t'Bars'
plain\t'Numbered lines'
quiet\t'Nothing but warnings and errors'
rawjson\t'One JSON object a line, for programs'"
complete -c rpub -n "__fish_rpub_using_subcommand image; and __fish_seen_subcommand_from list" -l insecure-registry -d 'Allow TLS with any certificate, or else plain HTTP, for this registry (repeatable)' -r
complete -c rpub -n "__fish_rpub_using_subcommand image; and __fish_seen_subcommand_from list" -l plain-http -d 'Reach this registry by plain HTTP (repeatable)' -r
complete -c rpub -n "__fish_rpub_using_subcommand image; and __fish_seen_subcommand_from list" -l skip-tls-verify -d 'Do not verify the certificate of this registry (repeatable)' -r
complete -c rpub -n "__fish_rpub_using_subcommand image; and __fish_seen_subcommand_from list" -l ca-file -d 'Also trust the certificate authorities in this PEM file (repeatable)' -r -F
complete -c rpub -n "__fish_rpub_using_subcommand image; and __fish_seen_subcommand_from list" -l cert-dir -d 'Use the authorities (*.crt) and client certificate (*.cert, *.key) in this directory' -r -F
complete -c rpub -n "__fish_rpub_using_subcommand image; and __fish_seen_subcommand_from list" -l registries-conf -d 'Read mirrors from this file [default: containers/registries.conf in ~/.config or /etc]' -r -F
complete -c rpub -n "__fish_rpub_using_subcommand image; and __fish_seen_subcommand_from list" -l retry-times -d 'Try a failed request so many times more [default: 4]' -r
complete -c rpub -n "__fish_rpub_using_subcommand image; and __fish_seen_subcommand_from list" -l retry-delay -d 'Wait so long before the first retry, twice as long before each further one [default: 500ms]' -r
complete -c rpub -n "__fish_rpub_using_subcommand image; and __fish_seen_subcommand_from list" -l max-wait -d 'Give up at once when a registry asks for a longer wait than this [default: 1m]' -r
complete -c rpub -n "__fish_rpub_using_subcommand image; and __fish_seen_subcommand_from list" -l idle-timeout -d 'Break off when a registry does nothing for so long [default: 90s]' -r
complete -c rpub -n "__fish_rpub_using_subcommand image; and __fish_seen_subcommand_from list" -l concurrency -d 'Move at most so many blobs at once each way [default: what the registry takes, up to 16]' -r
complete -c rpub -n "__fish_rpub_using_subcommand image; and __fish_seen_subcommand_from list" -l limit-rate -d 'Move at most so many bytes a second, both ways together, as in 5MB' -r
complete -c rpub -n "__fish_rpub_using_subcommand image; and __fish_seen_subcommand_from list" -l resolve -d 'Connect to this address for a registry\'s host and port (repeatable)' -r
complete -c rpub -n "__fish_rpub_using_subcommand image; and __fish_seen_subcommand_from list" -l http-header -d 'Send this header to registries; @FILE reads lines from a file (repeatable)' -r
complete -c rpub -n "__fish_rpub_using_subcommand image; and __fish_seen_subcommand_from list" -l user-agent-prefix -d 'Put this text before rpub\'s own in the user agent' -r
complete -c rpub -n "__fish_rpub_using_subcommand image; and __fish_seen_subcommand_from list" -l authfile -d 'Look for logins in this file only; login and logout change it' -r -F
complete -c rpub -n "__fish_rpub_using_subcommand image; and __fish_seen_subcommand_from list" -l src-authfile -d 'Look for logins for what is read from registries in this file only' -r -F
complete -c rpub -n "__fish_rpub_using_subcommand image; and __fish_seen_subcommand_from list" -l dest-authfile -d 'Look for logins for what is written to registries in this file only' -r -F
complete -c rpub -n "__fish_rpub_using_subcommand image; and __fish_seen_subcommand_from list" -l registry-token-file -d 'Send the bearer token in this file to this registry (repeatable)' -r
complete -c rpub -n "__fish_rpub_using_subcommand image; and __fish_seen_subcommand_from list" -s a -l all -d 'Show all images (rpub hides none)'
complete -c rpub -n "__fish_rpub_using_subcommand image; and __fish_seen_subcommand_from list" -l digests -d 'Show manifest digests'
complete -c rpub -n "__fish_rpub_using_subcommand image; and __fish_seen_subcommand_from list" -l no-trunc -d 'Do not shorten ids'
complete -c rpub -n "__fish_rpub_using_subcommand image; and __fish_seen_subcommand_from list" -s q -l quiet -d 'Show no progress, print only the result'
complete -c rpub -n "__fish_rpub_using_subcommand image; and __fish_seen_subcommand_from list" -l offline -d 'Open no connection to anybody: what is here counts, as it was last seen'
complete -c rpub -n "__fish_rpub_using_subcommand image; and __fish_seen_subcommand_from list" -s h -l help -d 'Print help'
complete -c rpub -n "__fish_rpub_using_subcommand image; and __fish_seen_subcommand_from pull" -l platform -d 'Pull for this platform [default: this machine\'s]' -r
complete -c rpub -n "__fish_rpub_using_subcommand image; and __fish_seen_subcommand_from pull" -l store -d 'Keep images, layers and the build cache here [default: ~/.local/share/rpub]' -r -F
complete -c rpub -n "__fish_rpub_using_subcommand image; and __fish_seen_subcommand_from pull" -l cache-size -d 'Keep the build cache within this size [default: a fifth of the disk, 10 to 100 GiB]' -r
complete -c rpub -n "__fish_rpub_using_subcommand image; and __fish_seen_subcommand_from pull" -l progress -d 'Show progress as auto, tty, plain, quiet or rawjson' -r -f -a "auto\t'Bars on a terminal, plain lines elsewhere'
tty\t'Bars'
plain\t'Numbered lines'
quiet\t'Nothing but warnings and errors'
rawjson\t'One JSON object a line, for programs'"
complete -c rpub -n "__fish_rpub_using_subcommand image; and __fish_seen_subcommand_from pull" -l insecure-registry -d 'Allow TLS with any certificate, or else plain HTTP, for this registry (repeatable)' -r
complete -c rpub -n "__fish_rpub_using_subcommand image; and __fish_seen_subcommand_from pull" -l plain-http -d 'Reach this registry by plain HTTP (repeatable)' -r
complete -c rpub -n "__fish_rpub_using_subcommand image; and __fish_seen_subcommand_from pull" -l skip-tls-verify -d 'Do not verify the certificate of this registry (repeatable)' -r
complete -c rpub -n "__fish_rpub_using_subcommand image; and __fish_seen_subcommand_from pull" -l ca-file -d 'Also trust the certificate authorities in this PEM file (repeatable)' -r -F
complete -c rpub -n "__fish_rpub_using_subcommand image; and __fish_seen_subcommand_from pull" -l cert-dir -d 'Use the authorities (*.crt) and client certificate (*.cert, *.key) in this directory' -r -F
complete -c rpub -n "__fish_rpub_using_subcommand image; and __fish_seen_subcommand_from pull" -l registries-conf -d 'Read mirrors from this file [default: containers/registries.conf in ~/.config or /etc]' -r -F
complete -c rpub -n "__fish_rpub_using_subcommand image; and __fish_seen_subcommand_from pull" -l retry-times -d 'Try a failed request so many times more [default: 4]' -r
complete -c rpub -n "__fish_rpub_using_subcommand image; and __fish_seen_subcommand_from pull" -l retry-delay -d 'Wait so long before the first retry, twice as long before each further one [default: 500ms]' -r
complete -c rpub -n "__fish_rpub_using_subcommand image; and __fish_seen_subcommand_from pull" -l max-wait -d 'Give up at once when a registry asks for a longer wait than this [default: 1m]' -r
complete -c rpub -n "__fish_rpub_using_subcommand image; and __fish_seen_subcommand_from pull" -l idle-timeout -d 'Break off when a registry does nothing for so long [default: 90s]' -r
complete -c rpub -n "__fish_rpub_using_subcommand image; and __fish_seen_subcommand_from pull" -l concurrency -d 'Move at most so many blobs at once each way [default: what the registry takes, up to 16]' -r
complete -c rpub -n "__fish_rpub_using_subcommand image; and __fish_seen_subcommand_from pull" -l limit-rate -d 'Move at most so many bytes a second, both ways together, as in 5MB' -r
complete -c rpub -n "__fish_rpub_using_subcommand image; and __fish_seen_subcommand_from pull" -l resolve -d 'Connect to this address for a registry\'s host and port (repeatable)' -r
complete -c rpub -n "__fish_rpub_using_subcommand image; and __fish_seen_subcommand_from pull" -l http-header -d 'Send this header to registries; @FILE reads lines from a file (repeatable)' -r
complete -c rpub -n "__fish_rpub_using_subcommand image; and __fish_seen_subcommand_from pull" -l user-agent-prefix -d 'Put this text before rpub\'s own in the user agent' -r
complete -c rpub -n "__fish_rpub_using_subcommand image; and __fish_seen_subcommand_from pull" -l authfile -d 'Look for logins in this file only; login and logout change it' -r -F
complete -c rpub -n "__fish_rpub_using_subcommand image; and __fish_seen_subcommand_from pull" -l src-authfile -d 'Look for logins for what is read from registries in this file only' -r -F
complete -c rpub -n "__fish_rpub_using_subcommand image; and __fish_seen_subcommand_from pull" -l dest-authfile -d 'Look for logins for what is written to registries in this file only' -r -F
complete -c rpub -n "__fish_rpub_using_subcommand image; and __fish_seen_subcommand_from pull" -l registry-token-file -d 'Send the bearer token in this file to this registry (repeatable)' -r
complete -c rpub -n "__fish_rpub_using_subcommand image; and __fish_seen_subcommand_from pull" -s q -l quiet -d 'Show no progress, print only the result'
complete -c rpub -n "__fish_rpub_using_subcommand image; and __fish_seen_subcommand_from pull" -l offline -d 'Open no connection to anybody: what is here counts, as it was last seen'
complete -c rpub -n "__fish_rpub_using_subcommand image; and __fish_seen_subcommand_from pull" -s h -l help -d 'Print help'
complete -c rpub -n "__fish_rpub_using_subcommand image; and __fish_seen_subcommand_from push" -l store -d 'Keep images, layers and the build cache here [default: ~/.local/share/rpub]' -r -F
complete -c rpub -n "__fish_rpub_using_subcommand image; and __fish_seen_subcommand_from push" -l cache-size -d 'Keep the build cache within this size [default: a fifth of the disk, 10 to 100 GiB]' -r
complete -c rpub -n "__fish_rpub_using_subcommand image; and __fish_seen_subcommand_from push" -l progress -d 'Show progress as auto, tty, plain, quiet or rawjson' -r -f -a "auto\t'Bars on a terminal, plain lines elsewhere'
tty\t'Bars'
plain\t'Numbered lines'
quiet\t'Nothing but warnings and errors'
rawjson\t'One JSON object a line, for programs'"
complete -c rpub -n "__fish_rpub_using_subcommand image; and __fish_seen_subcommand_from push" -l insecure-registry -d 'Allow TLS with any certificate, or else plain HTTP, for this registry (repeatable)' -r
complete -c rpub -n "__fish_rpub_using_subcommand image; and __fish_seen_subcommand_from push" -l plain-http -d 'Reach this registry by plain HTTP (repeatable)' -r
complete -c rpub -n "__fish_rpub_using_subcommand image; and __fish_seen_subcommand_from push" -l skip-tls-verify -d 'Do not verify the certificate of this registry (repeatable)' -r
complete -c rpub -n "__fish_rpub_using_subcommand image; and __fish_seen_subcommand_from push" -l ca-file -d 'Also trust the certificate authorities in this PEM file (repeatable)' -r -F
complete -c rpub -n "__fish_rpub_using_subcommand image; and __fish_seen_subcommand_from push" -l cert-dir -d 'Use the authorities (*.crt) and client certificate (*.cert, *.key) in this directory' -r -F
complete -c rpub -n "__fish_rpub_using_subcommand image; and __fish_seen_subcommand_from push" -l registries-conf -d 'Read mirrors from this file [default: containers/registries.conf in ~/.config or /etc]' -r -F
complete -c rpub -n "__fish_rpub_using_subcommand image; and __fish_seen_subcommand_from push" -l retry-times -d 'Try a failed request so many times more [default: 4]' -r
complete -c rpub -n "__fish_rpub_using_subcommand image; and __fish_seen_subcommand_from push" -l retry-delay -d 'Wait so long before the first retry, twice as long before each further one [default: 500ms]' -r
complete -c rpub -n "__fish_rpub_using_subcommand image; and __fish_seen_subcommand_from push" -l max-wait -d 'Give up at once when a registry asks for a longer wait than this [default: 1m]' -r
complete -c rpub -n "__fish_rpub_using_subcommand image; and __fish_seen_subcommand_from push" -l idle-timeout -d 'Break off when a registry does nothing for so long [default: 90s]' -r
complete -c rpub -n "__fish_rpub_using_subcommand image; and __fish_seen_subcommand_from push" -l concurrency -d 'Move at most so many blobs at once each way [default: what the registry takes, up to 16]' -r
complete -c rpub -n "__fish_rpub_using_subcommand image; and __fish_seen_subcommand_from push" -l limit-rate -d 'Move at most so many bytes a second, both ways together, as in 5MB' -r
complete -c rpub -n "__fish_rpub_using_subcommand image; and __fish_seen_subcommand_from push" -l resolve -d 'Connect to this address for a registry\'s host and port (repeatable)' -r
complete -c rpub -n "__fish_rpub_using_subcommand image; and __fish_seen_subcommand_from push" -l http-header -d 'Send this header to registries; @FILE reads lines from a file (repeatable)' -r
complete -c rpub -n "__fish_rpub_using_subcommand image; and __fish_seen_subcommand_from push" -l user-agent-prefix -d 'Put this text before rpub\'s own in the user agent' -r
complete -c rpub -n "__fish_rpub_using_subcommand image; and __fish_seen_subcommand_from push" -l authfile -d 'Look for logins in this file only; login and logout change it' -r -F
complete -c rpub -n "__fish_rpub_using_subcommand image; and __fish_seen_subcommand_from push" -l src-authfile -d 'Look for logins for what is read from registries in this file only' -r -F
complete -c rpub -n "__fish_rpub_using_subcommand image; and __fish_seen_subcommand_from push" -l dest-authfile -d 'Look for logins for what is written to registries in this file only' -r -F
complete -c rpub -n "__fish_rpub_using_subcommand image; and __fish_seen_subcommand_from push" -l registry-token-file -d 'Send the bearer token in this file to this registry (repeatable)' -r
complete -c rpub -n "__fish_rpub_using_subcommand image; and __fish_seen_subcommand_from push" -l include-external -d 'Also push layers that say where else they are, such as those of Windows'
complete -c rpub -n "__fish_rpub_using_subcommand image; and __fish_seen_subcommand_from push" -s q -l quiet -d 'Show no progress, print only the result'
complete -c rpub -n "__fish_rpub_using_subcommand image; and __fish_seen_subcommand_from push" -l offline -d 'Open no connection to anybody: what is here counts, as it was last seen'
complete -c rpub -n "__fish_rpub_using_subcommand image; and __fish_seen_subcommand_from push" -s h -l help -d 'Print help'
complete -c rpub -n "__fish_rpub_using_subcommand image; and __fish_seen_subcommand_from tag" -l store -d 'Keep images, layers and the build cache here [default: ~/.local/share/rpub]' -r -F
complete -c rpub -n "__fish_rpub_using_subcommand image; and __fish_seen_subcommand_from tag" -l cache-size -d 'Keep the build cache within this size [default: a fifth of the disk, 10 to 100 GiB]' -r
complete -c rpub -n "__fish_rpub_using_subcommand image; and __fish_seen_subcommand_from tag" -l progress -d 'Show progress as auto, tty, plain, quiet or rawjson' -r -f -a "auto\t'Bars on a terminal, plain lines elsewhere'
tty\t'Bars'
plain\t'Numbered lines'
quiet\t'Nothing but warnings and errors'
rawjson\t'One JSON object a line, for programs'"
complete -c rpub -n "__fish_rpub_using_subcommand image; and __fish_seen_subcommand_from tag" -l insecure-registry -d 'Allow TLS with any certificate, or else plain HTTP, for this registry (repeatable)' -r
complete -c rpub -n "__fish_rpub_using_subcommand image; and __fish_seen_subcommand_from tag" -l plain-http -d 'Reach this registry by plain HTTP (repeatable)' -r
complete -c rpub -n "__fish_rpub_using_subcommand image; and __fish_seen_subcommand_from tag" -l skip-tls-verify -d 'Do not verify the certificate of this registry (repeatable)' -r
complete -c rpub -n "__fish_rpub_using_subcommand image; and __fish_seen_subcommand_from tag" -l ca-file -d 'Also trust the certificate authorities in this PEM file (repeatable)' -r -F
complete -c rpub -n "__fish_rpub_using_subcommand image; and __fish_seen_subcommand_from tag" -l cert-dir -d 'Use the authorities (*.crt) and client certificate (*.cert, *.key) in this directory' -r -F
complete -c rpub -n "__fish_rpub_using_subcommand image; and __fish_seen_subcommand_from tag" -l registries-conf -d 'Read mirrors from this file [default: containers/registries.conf in ~/.config or /etc]' -r -F
complete -c rpub -n "__fish_rpub_using_subcommand image; and __fish_seen_subcommand_from tag" -l retry-times -d 'Try a failed request so many times more [default: 4]' -r
complete -c rpub -n "__fish_rpub_using_subcommand image; and __fish_seen_subcommand_from tag" -l retry-delay -d 'Wait so long before the first retry, twice as long before each further one [default: 500ms]' -r
complete -c rpub -n "__fish_rpub_using_subcommand image; and __fish_seen_subcommand_from tag" -l max-wait -d 'Give up at once when a registry asks for a longer wait than this [default: 1m]' -r
complete -c rpub -n "__fish_rpub_using_subcommand image; and __fish_seen_subcommand_from tag" -l idle-timeout -d 'Break off when a registry does nothing for so long [default: 90s]' -r
complete -c rpub -n "__fish_rpub_using_subcommand image; and __fish_seen_subcommand_from tag" -l concurrency -d 'Move at most so many blobs at once each way [default: what the registry takes, up to 16]' -r
complete -c rpub -n "__fish_rpub_using_subcommand image; and __fish_seen_subcommand_from tag" -l limit-rate -d 'Move at most so many bytes a second, both ways together, as in 5MB' -r
complete -c rpub -n "__fish_rpub_using_subcommand image; and __fish_seen_subcommand_from tag" -l resolve -d 'Connect to this address for a registry\'s host and port (repeatable)' -r
complete -c rpub -n "__fish_rpub_using_subcommand image; and __fish_seen_subcommand_from tag" -l http-header -d 'Send this header to registries; @FILE reads lines from a file (repeatable)' -r
complete -c rpub -n "__fish_rpub_using_subcommand image; and __fish_seen_subcommand_from tag" -l user-agent-prefix -d 'Put this text before rpub\'s own in the user agent' -r
complete -c rpub -n "__fish_rpub_using_subcommand image; and __fish_seen_subcommand_from tag" -l authfile -d 'Look for logins in this file only; login and logout change it' -r -F
complete -c rpub -n "__fish_rpub_using_subcommand image; and __fish_seen_subcommand_from tag" -l src-authfile -d 'Look for logins for what is read from registries in this file only' -r -F
complete -c rpub -n "__fish_rpub_using_subcommand image; and __fish_seen_subcommand_from tag" -l dest-authfile -d 'Look for logins for what is written to registries in this file only' -r -F
complete -c rpub -n "__fish_rpub_using_subcommand image; and __fish_seen_subcommand_from tag" -l registry-token-file -d 'Send the bearer token in this file to this registry (repeatable)' -r
complete -c rpub -n "__fish_rpub_using_subcommand image; and __fish_seen_subcommand_from tag" -s q -l quiet -d 'Show no progress, print only the result'
complete -c rpub -n "__fish_rpub_using_subcommand image; and __fish_seen_subcommand_from tag" -l offline -d 'Open no connection to anybody: what is here counts, as it was last seen'
complete -c rpub -n "__fish_rpub_using_subcommand image; and __fish_seen_subcommand_from tag" -s h -l help -d 'Print help'
complete -c rpub -n "__fish_rpub_using_subcommand image; and __fish_seen_subcommand_from rm" -l store -d 'Keep images, layers and the build cache here [default: ~/.local/share/rpub]' -r -F
complete -c rpub -n "__fish_rpub_using_subcommand image; and __fish_seen_subcommand_from rm" -l cache-size -d 'Keep the build cache within this size [default: a fifth of the disk, 10 to 100 GiB]' -r
complete -c rpub -n "__fish_rpub_using_subcommand image; and __fish_seen_subcommand_from rm" -l progress -d 'Show progress as auto, tty, plain, quiet or rawjson' -r -f -a "auto\t'Bars on a terminal, plain lines elsewhere'
tty\t'Bars'
plain\t'Numbered lines'
quiet\t'Nothing but warnings and errors'
rawjson\t'One JSON object a line, for programs'"
complete -c rpub -n "__fish_rpub_using_subcommand image; and __fish_seen_subcommand_from rm" -l insecure-registry -d 'Allow TLS with any certificate, or else plain HTTP, for this registry (repeatable)' -r
complete -c rpub -n "__fish_rpub_using_subcommand image; and __fish_seen_subcommand_from rm" -l plain-http -d 'Reach this registry by plain HTTP (repeatable)' -r
complete -c rpub -n "__fish_rpub_using_subcommand image; and __fish_seen_subcommand_from rm" -l skip-tls-verify -d 'Do not verify the certificate of this registry (repeatable)' -r
complete -c rpub -n "__fish_rpub_using_subcommand image; and __fish_seen_subcommand_from rm" -l ca-file -d 'Also trust the certificate authorities in this PEM file (repeatable)' -r -F
complete -c rpub -n "__fish_rpub_using_subcommand image; and __fish_seen_subcommand_from rm" -l cert-dir -d 'Use the authorities (*.crt) and client certificate (*.cert, *.key) in this directory' -r -F
complete -c rpub -n "__fish_rpub_using_subcommand image; and __fish_seen_subcommand_from rm" -l registries-conf -d 'Read mirrors from this file [default: containers/registries.conf in ~/.config or /etc]' -r -F
complete -c rpub -n "__fish_rpub_using_subcommand image; and __fish_seen_subcommand_from rm" -l retry-times -d 'Try a failed request so many times more [default: 4]' -r
complete -c rpub -n "__fish_rpub_using_subcommand image; and __fish_seen_subcommand_from rm" -l retry-delay -d 'Wait so long before the first retry, twice as long before each further one [default: 500ms]' -r
complete -c rpub -n "__fish_rpub_using_subcommand image; and __fish_seen_subcommand_from rm" -l max-wait -d 'Give up at once when a registry asks for a longer wait than this [default: 1m]' -r
complete -c rpub -n "__fish_rpub_using_subcommand image; and __fish_seen_subcommand_from rm" -l idle-timeout -d 'Break off when a registry does nothing for so long [default: 90s]' -r
complete -c rpub -n "__fish_rpub_using_subcommand image; and __fish_seen_subcommand_from rm" -l concurrency -d 'Move at most so many blobs at once each way [default: what the registry takes, up to 16]' -r
complete -c rpub -n "__fish_rpub_using_subcommand image; and __fish_seen_subcommand_from rm" -l limit-rate -d 'Move at most so many bytes a second, both ways together, as in 5MB' -r
complete -c rpub -n "__fish_rpub_using_subcommand image; and __fish_seen_subcommand_from rm" -l resolve -d 'Connect to this address for a registry\'s host and port (repeatable)' -r
complete -c rpub -n "__fish_rpub_using_subcommand image; and __fish_seen_subcommand_from rm" -l http-header -d 'Send this header to registries; @FILE reads lines from a file (repeatable)' -r
complete -c rpub -n "__fish_rpub_using_subcommand image; and __fish_seen_subcommand_from rm" -l user-agent-prefix -d 'Put this text before rpub\'s own in the user agent' -r
complete -c rpub -n "__fish_rpub_using_subcommand image; and __fish_seen_subcommand_from rm" -l authfile -d 'Look for logins in this file only; login and logout change it' -r -F
complete -c rpub -n "__fish_rpub_using_subcommand image; and __fish_seen_subcommand_from rm" -l src-authfile -d 'Look for logins for what is read from registries in this file only' -r -F
complete -c rpub -n "__fish_rpub_using_subcommand image; and __fish_seen_subcommand_from rm" -l dest-authfile -d 'Look for logins for what is written to registries in this file only' -r -F
complete -c rpub -n "__fish_rpub_using_subcommand image; and __fish_seen_subcommand_from rm" -l registry-token-file -d 'Send the bearer token in this file to this registry (repeatable)' -r
complete -c rpub -n "__fish_rpub_using_subcommand image; and __fish_seen_subcommand_from rm" -s f -l force -d 'Remove an image given by its id though it has several names'
complete -c rpub -n "__fish_rpub_using_subcommand image; and __fish_seen_subcommand_from rm" -s q -l quiet -d 'Show no progress, print only the result'
complete -c rpub -n "__fish_rpub_using_subcommand image; and __fish_seen_subcommand_from rm" -l offline -d 'Open no connection to anybody: what is here counts, as it was last seen'
complete -c rpub -n "__fish_rpub_using_subcommand image; and __fish_seen_subcommand_from rm" -s h -l help -d 'Print help'
complete -c rpub -n "__fish_rpub_using_subcommand image; and __fish_seen_subcommand_from remove" -l store -d 'Keep images, layers and the build cache here [default: ~/.local/share/rpub]' -r -F
complete -c rpub -n "__fish_rpub_using_subcommand image; and __fish_seen_subcommand_from remove" -l cache-size -d 'Keep the build cache within this size [default: a fifth of the disk, 10 to 100 GiB]' -r
complete -c rpub -n "__fish_rpub_using_subcommand image; and __fish_seen_subcommand_from remove" -l progress -d 'Show progress as auto, tty, plain, quiet or rawjson' -r -f -a "auto\t'Bars on a terminal, plain lines elsewhere'
tty\t'Bars'
plain\t'Numbered lines'
quiet\t'Nothing but warnings and errors'
rawjson\t'One JSON object a line, for programs'"
complete -c rpub -n "__fish_rpub_using_subcommand image; and __fish_seen_subcommand_from remove" -l insecure-registry -d 'Allow TLS with any certificate, or else plain HTTP, for this registry (repeatable)' -r
complete -c rpub -n "__fish_rpub_using_subcommand image; and __fish_seen_subcommand_from remove" -l plain-http -d 'Reach this registry by plain HTTP (repeatable)' -r
complete -c rpub -n "__fish_rpub_using_subcommand image; and __fish_seen_subcommand_from remove" -l skip-tls-verify -d 'Do not verify the certificate of this registry (repeatable)' -r
complete -c rpub -n "__fish_rpub_using_subcommand image; and __fish_seen_subcommand_from remove" -l ca-file -d 'Also trust the certificate authorities in this PEM file (repeatable)' -r -F
complete -c rpub -n "__fish_rpub_using_subcommand image; and __fish_seen_subcommand_from remove" -l cert-dir -d 'Use the authorities (*.crt) and client certificate (*.cert, *.key) in this directory' -r -F
complete -c rpub -n "__fish_rpub_using_subcommand image; and __fish_seen_subcommand_from remove" -l registries-conf -d 'Read mirrors from this file [default: containers/registries.conf in ~/.config or /etc]' -r -F
complete -c rpub -n "__fish_rpub_using_subcommand image; and __fish_seen_subcommand_from remove" -l retry-times -d 'Try a failed request so many times more [default: 4]' -r
complete -c rpub -n "__fish_rpub_using_subcommand image; and __fish_seen_subcommand_from remove" -l retry-delay -d 'Wait so long before the first retry, twice as long before each further one [default: 500ms]' -r
complete -c rpub -n "__fish_rpub_using_subcommand image; and __fish_seen_subcommand_from remove" -l max-wait -d 'Give up at once when a registry asks for a longer wait than this [default: 1m]' -r
complete -c rpub -n "__fish_rpub_using_subcommand image; and __fish_seen_subcommand_from remove" -l idle-timeout -d 'Break off when a registry does nothing for so long [default: 90s]' -r
complete -c rpub -n "__fish_rpub_using_subcommand image; and __fish_seen_subcommand_from remove" -l concurrency -d 'Move at most so many blobs at once each way [default: what the registry takes, up to 16]' -r
complete -c rpub -n "__fish_rpub_using_subcommand image; and __fish_seen_subcommand_from remove" -l limit-rate -d 'Move at most so many bytes a second, both ways together, as in 5MB' -r
complete -c rpub -n "__fish_rpub_using_subcommand image; and __fish_seen_subcommand_from remove" -l resolve -d 'Connect to this address for a registry\'s host and port (repeatable)' -r
complete -c rpub -n "__fish_rpub_using_subcommand image; and __fish_seen_subcommand_from remove" -l http-header -d 'Send this header to registries; @FILE reads lines from a file (repeatable)' -r
complete -c rpub -n "__fish_rpub_using_subcommand image; and __fish_seen_subcommand_from remove" -l user-agent-prefix -d 'Put this text before rpub\'s own in the user agent' -r
complete -c rpub -n "__fish_rpub_using_subcommand image; and __fish_seen_subcommand_from remove" -l authfile -d 'Look for logins in this file only; login and logout change it' -r -F
complete -c rpub -n "__fish_rpub_using_subcommand image; and __fish_seen_subcommand_from remove" -l src-authfile -d 'Look for logins for what is read from registries in this file only' -r -F
complete -c rpub -n "__fish_rpub_using_subcommand image; and __fish_seen_subcommand_from remove" -l dest-authfile -d 'Look for logins for what is written to registries in this file only' -r -F
complete -c rpub -n "__fish_rpub_using_subcommand image; and __fish_seen_subcommand_from remove" -l registry-token-file -d 'Send the bearer token in this file to this registry (repeatable)' -r
complete -c rpub -n "__fish_rpub_using_subcommand image; and __fish_seen_subcommand_from remove" -s f -l force -d 'Remove an image given by its id though it has several names'
complete -c rpub -n "__fish_rpub_using_subcommand image; and __fish_seen_subcommand_from remove" -s q -l quiet -d 'Show no progress, print only the result'
complete -c rpub -n "__fish_rpub_using_subcommand image; and __fish_seen_subcommand_from remove" -l offline -d 'Open no connection to anybody: what is here counts, as it was last seen'
complete -c rpub -n "__fish_rpub_using_subcommand image; and __fish_seen_subcommand_from remove" -s h -l help -d 'Print help'
complete -c rpub -n "__fish_rpub_using_subcommand image; and __fish_seen_subcommand_from inspect" -l format -d 'Print json, the template given, or with table before it a table: \'table {{.ID}}\'' -r
complete -c rpub -n "__fish_rpub_using_subcommand image; and __fish_seen_subcommand_from inspect" -l store -d 'Keep images, layers and the build cache here [default: ~/.local/share/rpub]' -r -F
complete -c rpub -n "__fish_rpub_using_subcommand image; and __fish_seen_subcommand_from inspect" -l cache-size -d 'Keep the build cache within this size [default: a fifth of the disk, 10 to 100 GiB]' -r
complete -c rpub -n "__fish_rpub_using_subcommand image; and __fish_seen_subcommand_from inspect" -l progress -d 'Show progress as auto, tty, plain, quiet or rawjson' -r -f -a "auto\t'Bars on a terminal, plain lines elsewhere'
tty\t'Bars'
plain\t'Numbered lines'
quiet\t'Nothing but warnings and errors'
rawjson\t'One JSON object a line, for programs'"
complete -c rpub -n "__fish_rpub_using_subcommand image; and __fish_seen_subcommand_from inspect" -l insecure-registry -d 'Allow TLS with any certificate, or else plain HTTP, for this registry (repeatable)' -r
complete -c rpub -n "__fish_rpub_using_subcommand image; and __fish_seen_subcommand_from inspect" -l plain-http -d 'Reach this registry by plain HTTP (repeatable)' -r
complete -c rpub -n "__fish_rpub_using_subcommand image; and __fish_seen_subcommand_from inspect" -l skip-tls-verify -d 'Do not verify the certificate of this registry (repeatable)' -r
complete -c rpub -n "__fish_rpub_using_subcommand image; and __fish_seen_subcommand_from inspect" -l ca-file -d 'Also trust the certificate authorities in this PEM file (repeatable)' -r -F
complete -c rpub -n "__fish_rpub_using_subcommand image; and __fish_seen_subcommand_from inspect" -l cert-dir -d 'Use the authorities (*.crt) and client certificate (*.cert, *.key) in this directory' -r -F
complete -c rpub -n "__fish_rpub_using_subcommand image; and __fish_seen_subcommand_from inspect" -l registries-conf -d 'Read mirrors from this file [default: containers/registries.conf in ~/.config or /etc]' -r -F
complete -c rpub -n "__fish_rpub_using_subcommand image; and __fish_seen_subcommand_from inspect" -l retry-times -d 'Try a failed request so many times more [default: 4]' -r
complete -c rpub -n "__fish_rpub_using_subcommand image; and __fish_seen_subcommand_from inspect" -l retry-delay -d 'Wait so long before the first retry, twice as long before each further one [default: 500ms]' -r
complete -c rpub -n "__fish_rpub_using_subcommand image; and __fish_seen_subcommand_from inspect" -l max-wait -d 'Give up at once when a registry asks for a longer wait than this [default: 1m]' -r
complete -c rpub -n "__fish_rpub_using_subcommand image; and __fish_seen_subcommand_from inspect" -l idle-timeout -d 'Break off when a registry does nothing for so long [default: 90s]' -r
complete -c rpub -n "__fish_rpub_using_subcommand image; and __fish_seen_subcommand_from inspect" -l concurrency -d 'Move at most so many blobs at once each way [default: what the registry takes, up to 16]' -r
complete -c rpub -n "__fish_rpub_using_subcommand image; and __fish_seen_subcommand_from inspect" -l limit-rate -d 'Move at most so many bytes a second, both ways together, as in 5MB' -r
complete -c rpub -n "__fish_rpub_using_subcommand image; and __fish_seen_subcommand_from inspect" -l resolve -d 'Connect to this address for a registry\'s host and port (repeatable)' -r
complete -c rpub -n "__fish_rpub_using_subcommand image; and __fish_seen_subcommand_from inspect" -l http-header -d 'Send this header to registries; @FILE reads lines from a file (repeatable)' -r
complete -c rpub -n "__fish_rpub_using_subcommand image; and __fish_seen_subcommand_from inspect" -l user-agent-prefix -d 'Put this text before rpub\'s own in the user agent' -r
complete -c rpub -n "__fish_rpub_using_subcommand image; and __fish_seen_subcommand_from inspect" -l authfile -d 'Look for logins in this file only; login and logout change it' -r -F
complete -c rpub -n "__fish_rpub_using_subcommand image; and __fish_seen_subcommand_from inspect" -l src-authfile -d 'Look for logins for what is read from registries in this file only' -r -F
complete -c rpub -n "__fish_rpub_using_subcommand image; and __fish_seen_subcommand_from inspect" -l dest-authfile -d 'Look for logins for what is written to registries in this file only' -r -F
complete -c rpub -n "__fish_rpub_using_subcommand image; and __fish_seen_subcommand_from inspect" -l registry-token-file -d 'Send the bearer token in this file to this registry (repeatable)' -r
complete -c rpub -n "__fish_rpub_using_subcommand image; and __fish_seen_subcommand_from inspect" -s q -l quiet -d 'Show no progress, print only the result'
complete -c rpub -n "__fish_rpub_using_subcommand image; and __fish_seen_subcommand_from inspect" -l offline -d 'Open no connection to anybody: what is here counts, as it was last seen'
complete -c rpub -n "__fish_rpub_using_subcommand image; and __fish_seen_subcommand_from inspect" -s h -l help -d 'Print help'
complete -c rpub -n "__fish_rpub_using_subcommand image; and __fish_seen_subcommand_from history" -l format -d 'Print json, the template given, or with table before it a table: \'table {{.ID}}\'' -r
complete -c rpub -n "__fish_rpub_using_subcommand image; and __fish_seen_subcommand_from history" -l store -d 'Keep images, layers and the build cache here [default: ~/.local/share/rpub]' -r -F
complete -c rpub -n "__fish_rpub_using_subcommand image; and __fish_seen_subcommand_from history" -l cache-size -d 'Keep the build cache within this size [default: a fifth of the disk, 10 to 100 GiB]' -r
complete -c rpub -n "__fish_rpub_using_subcommand image; and __fish_seen_subcommand_from history" -l progress -d 'Show progress as auto, tty, plain, quiet or rawjson' -r -f -a "auto\t'Bars on a terminal, plain lines elsewhere'
tty\t'Bars'
plain\t'Numbered lines'
quiet\t'Nothing but warnings and errors'
rawjson\t'One JSON object a line, for programs'"
complete -c rpub -n "__fish_rpub_using_subcommand image; and __fish_seen_subcommand_from history" -l insecure-registry -d 'Allow TLS with any certificate, or else plain HTTP, for this registry (repeatable)' -r
complete -c rpub -n "__fish_rpub_using_subcommand image; and __fish_seen_subcommand_from history" -l plain-http -d 'Reach this registry by plain HTTP (repeatable)' -r
complete -c rpub -n "__fish_rpub_using_subcommand image; and __fish_seen_subcommand_from history" -l skip-tls-verify -d 'Do not verify the certificate of this registry (repeatable)' -r
complete -c rpub -n "__fish_rpub_using_subcommand image; and __fish_seen_subcommand_from history" -l ca-file -d 'Also trust the certificate authorities in this PEM file (repeatable)' -r -F
complete -c rpub -n "__fish_rpub_using_subcommand image; and __fish_seen_subcommand_from history" -l cert-dir -d 'Use the authorities (*.crt) and client certificate (*.cert, *.key) in this directory' -r -F
complete -c rpub -n "__fish_rpub_using_subcommand image; and __fish_seen_subcommand_from history" -l registries-conf -d 'Read mirrors from this file [default: containers/registries.conf in ~/.config or /etc]' -r -F
complete -c rpub -n "__fish_rpub_using_subcommand image; and __fish_seen_subcommand_from history" -l retry-times -d 'Try a failed request so many times more [default: 4]' -r
complete -c rpub -n "__fish_rpub_using_subcommand image; and __fish_seen_subcommand_from history" -l retry-delay -d 'Wait so long before the first retry, twice as long before each further one [default: 500ms]' -r
complete -c rpub -n "__fish_rpub_using_subcommand image; and __fish_seen_subcommand_from history" -l max-wait -d 'Give up at once when a registry asks for a longer wait than this [default: 1m]' -r
complete -c rpub -n "__fish_rpub_using_subcommand image; and __fish_seen_subcommand_from history" -l idle-timeout -d 'Break off when a registry does nothing for so long [default: 90s]' -r
complete -c rpub -n "__fish_rpub_using_subcommand image; and __fish_seen_subcommand_from history" -l concurrency -d 'Move at most so many blobs at once each way [default: what the registry takes, up to 16]' -r
complete -c rpub -n "__fish_rpub_using_subcommand image; and __fish_seen_subcommand_from history" -l limit-rate -d 'Move at most so many bytes a second, both ways together, as in 5MB' -r
complete -c rpub -n "__fish_rpub_using_subcommand image; and __fish_seen_subcommand_from history" -l resolve -d 'Connect to this address for a registry\'s host and port (repeatable)' -r
complete -c rpub -n "__fish_rpub_using_subcommand image; and __fish_seen_subcommand_from history" -l http-header -d 'Send this header to registries; @FILE reads lines from a file (repeatable)' -r
complete -c rpub -n "__fish_rpub_using_subcommand image; and __fish_seen_subcommand_from history" -l user-agent-prefix -d 'Put this text before rpub\'s own in the user agent' -r
complete -c rpub -n "__fish_rpub_using_subcommand image; and __fish_seen_subcommand_from history" -l authfile -d 'Look for logins in this file only; login and logout change it' -r -F
complete -c rpub -n "__fish_rpub_using_subcommand image; and __fish_seen_subcommand_from history" -l src-authfile -d 'Look for logins for what is read from registries in this file only' -r -F
complete -c rpub -n "__fish_rpub_using_subcommand image; and __fish_seen_subcommand_from history" -l dest-authfile -d 'Look for logins for what is written to registries in this file only' -r -F
complete -c rpub -n "__fish_rpub_using_subcommand image; and __fish_seen_subcommand_from history" -l registry-token-file -d 'Send the bearer token in this file to this registry (repeatable)' -r
complete -c rpub -n "__fish_rpub_using_subcommand image; and __fish_seen_subcommand_from history" -l no-trunc -d 'Do not shorten ids and instructions'
complete -c rpub -n "__fish_rpub_using_subcommand image; and __fish_seen_subcommand_from history" -s q -l quiet -d 'Show no progress, print only the result'
complete -c rpub -n "__fish_rpub_using_subcommand image; and __fish_seen_subcommand_from history" -l offline -d 'Open no connection to anybody: what is here counts, as it was last seen'
complete -c rpub -n "__fish_rpub_using_subcommand image; and __fish_seen_subcommand_from history" -s h -l help -d 'Print help'
complete -c rpub -n "__fish_rpub_using_subcommand image; and __fish_seen_subcommand_from import" -s c -l change -d 'Apply a Dockerfile instruction such as \'CMD sh\' (repeatable)' -r
complete -c rpub -n "__fish_rpub_using_subcommand image; and __fish_seen_subcommand_from import" -s m -l message -d 'Keep this comment in the image\'s history' -r
complete -c rpub -n "__fish_rpub_using_subcommand image; and __fish_seen_subcommand_from import" -l platform -d 'Platform that the files are for [default: this machine\'s]' -r
complete -c rpub -n "__fish_rpub_using_subcommand image; and __fish_seen_subcommand_from import" -l store -d 'Keep images, layers and the build cache here [default: ~/.local/share/rpub]' -r -F
complete -c rpub -n "__fish_rpub_using_subcommand image; and __fish_seen_subcommand_from import" -l cache-size -d 'Keep the build cache within this size [default: a fifth of the disk, 10 to 100 GiB]' -r
complete -c rpub -n "__fish_rpub_using_subcommand image; and __fish_seen_subcommand_from import" -l progress -d 'Show progress as auto, tty, plain, quiet or rawjson' -r -f -a "auto\t'Bars on a terminal, plain lines elsewhere'
tty\t'Bars'
plain\t'Numbered lines'
quiet\t'Nothing but warnings and errors'
rawjson\t'One JSON object a line, for programs'"
complete -c rpub -n "__fish_rpub_using_subcommand image; and __fish_seen_subcommand_from import" -l insecure-registry -d 'Allow TLS with any certificate, or else plain HTTP, for this registry (repeatable)' -r
complete -c rpub -n "__fish_rpub_using_subcommand image; and __fish_seen_subcommand_from import" -l plain-http -d 'Reach this registry by plain HTTP (repeatable)' -r
complete -c rpub -n "__fish_rpub_using_subcommand image; and __fish_seen_subcommand_from import" -l skip-tls-verify -d 'Do not verify the certificate of this registry (repeatable)' -r
complete -c rpub -n "__fish_rpub_using_subcommand image; and __fish_seen_subcommand_from import" -l ca-file -d 'Also trust the certificate authorities in this PEM file (repeatable)' -r -F
complete -c rpub -n "__fish_rpub_using_subcommand image; and __fish_seen_subcommand_from import" -l cert-dir -d 'Use the authorities (*.crt) and client certificate (*.cert, *.key) in this directory' -r -F
complete -c rpub -n "__fish_rpub_using_subcommand image; and __fish_seen_subcommand_from import" -l registries-conf -d 'Read mirrors from this file [default: containers/registries.conf in ~/.config or /etc]' -r -F
complete -c rpub -n "__fish_rpub_using_subcommand image; and __fish_seen_subcommand_from import" -l retry-times -d 'Try a failed request so many times more [default: 4]' -r
complete -c rpub -n "__fish_rpub_using_subcommand image; and __fish_seen_subcommand_from import" -l retry-delay -d 'Wait so long before the first retry, twice as long before each further one [default: 500ms]' -r
complete -c rpub -n "__fish_rpub_using_subcommand image; and __fish_seen_subcommand_from import" -l max-wait -d 'Give up at once when a registry asks for a longer wait than this [default: 1m]' -r
complete -c rpub -n "__fish_rpub_using_subcommand image; and __fish_seen_subcommand_from import" -l idle-timeout -d 'Break off when a registry does nothing for so long [default: 90s]' -r
complete -c rpub -n "__fish_rpub_using_subcommand image; and __fish_seen_subcommand_from import" -l concurrency -d 'Move at most so many blobs at once each way [default: what the registry takes, up to 16]' -r
complete -c rpub -n "__fish_rpub_using_subcommand image; and __fish_seen_subcommand_from import" -l limit-rate -d 'Move at most so many bytes a second, both ways together, as in 5MB' -r
complete -c rpub -n "__fish_rpub_using_subcommand image; and __fish_seen_subcommand_from import" -l resolve -d 'Connect to this address for a registry\'s host and port (repeatable)' -r
complete -c rpub -n "__fish_rpub_using_subcommand image; and __fish_seen_subcommand_from import" -l http-header -d 'Send this header to registries; @FILE reads lines from a file (repeatable)' -r
complete -c rpub -n "__fish_rpub_using_subcommand image; and __fish_seen_subcommand_from import" -l user-agent-prefix -d 'Put this text before rpub\'s own in the user agent' -r
complete -c rpub -n "__fish_rpub_using_subcommand image; and __fish_seen_subcommand_from import" -l authfile -d 'Look for logins in this file only; login and logout change it' -r -F
complete -c rpub -n "__fish_rpub_using_subcommand image; and __fish_seen_subcommand_from import" -l src-authfile -d 'Look for logins for what is read from registries in this file only' -r -F
complete -c rpub -n "__fish_rpub_using_subcommand image; and __fish_seen_subcommand_from import" -l dest-authfile -d 'Look for logins for what is written to registries in this file only' -r -F
complete -c rpub -n "__fish_rpub_using_subcommand image; and __fish_seen_subcommand_from import" -l registry-token-file -d 'Send the bearer token in this file to this registry (repeatable)' -r
complete -c rpub -n "__fish_rpub_using_subcommand image; and __fish_seen_subcommand_from import" -s q -l quiet -d 'Show no progress, print only the result'
complete -c rpub -n "__fish_rpub_using_subcommand image; and __fish_seen_subcommand_from import" -l offline -d 'Open no connection to anybody: what is here counts, as it was last seen'
complete -c rpub -n "__fish_rpub_using_subcommand image; and __fish_seen_subcommand_from import" -s h -l help -d 'Print help'
complete -c rpub -n "__fish_rpub_using_subcommand image; and __fish_seen_subcommand_from save" -s o -l output -d 'Write to this file instead of standard output' -r -F
complete -c rpub -n "__fish_rpub_using_subcommand image; and __fish_seen_subcommand_from save" -l format -d 'Write what docker loads, an OCI archive, an OCI layout in a directory, or a bundle' -r -f -a "docker-archive\t'What `docker save` writes'
oci-archive\t'An OCI layout in a tar'
oci\t'An OCI layout in a directory'
bundle\t'A bundle'"
complete -c rpub -n "__fish_rpub_using_subcommand image; and __fish_seen_subcommand_from save" -l platform -d 'Of an index, save the images for these platforms [default: all; in docker-archive this machine\'s]' -r
complete -c rpub -n "__fish_rpub_using_subcommand image; and __fish_seen_subcommand_from save" -l store -d 'Keep images, layers and the build cache here [default: ~/.local/share/rpub]' -r -F
complete -c rpub -n "__fish_rpub_using_subcommand image; and __fish_seen_subcommand_from save" -l cache-size -d 'Keep the build cache within this size [default: a fifth of the disk, 10 to 100 GiB]' -r
complete -c rpub -n "__fish_rpub_using_subcommand image; and __fish_seen_subcommand_from save" -l progress -d 'Show progress as auto, tty, plain, quiet or rawjson' -r -f -a "auto\t'Bars on a terminal, plain lines elsewhere'
tty\t'Bars'
plain\t'Numbered lines'
quiet\t'Nothing but warnings and errors'
rawjson\t'One JSON object a line, for programs'"
complete -c rpub -n "__fish_rpub_using_subcommand image; and __fish_seen_subcommand_from save" -l insecure-registry -d 'Allow TLS with any certificate, or else plain HTTP, for this registry (repeatable)' -r
complete -c rpub -n "__fish_rpub_using_subcommand image; and __fish_seen_subcommand_from save" -l plain-http -d 'Reach this registry by plain HTTP (repeatable)' -r
complete -c rpub -n "__fish_rpub_using_subcommand image; and __fish_seen_subcommand_from save" -l skip-tls-verify -d 'Do not verify the certificate of this registry (repeatable)' -r
complete -c rpub -n "__fish_rpub_using_subcommand image; and __fish_seen_subcommand_from save" -l ca-file -d 'Also trust the certificate authorities in this PEM file (repeatable)' -r -F
complete -c rpub -n "__fish_rpub_using_subcommand image; and __fish_seen_subcommand_from save" -l cert-dir -d 'Use the authorities (*.crt) and client certificate (*.cert, *.key) in this directory' -r -F
complete -c rpub -n "__fish_rpub_using_subcommand image; and __fish_seen_subcommand_from save" -l registries-conf -d 'Read mirrors from this file [default: containers/registries.conf in ~/.config or /etc]' -r -F
complete -c rpub -n "__fish_rpub_using_subcommand image; and __fish_seen_subcommand_from save" -l retry-times -d 'Try a failed request so many times more [default: 4]' -r
complete -c rpub -n "__fish_rpub_using_subcommand image; and __fish_seen_subcommand_from save" -l retry-delay -d 'Wait so long before the first retry, twice as long before each further one [default: 500ms]' -r
complete -c rpub -n "__fish_rpub_using_subcommand image; and __fish_seen_subcommand_from save" -l max-wait -d 'Give up at once when a registry asks for a longer wait than this [default: 1m]' -r
complete -c rpub -n "__fish_rpub_using_subcommand image; and __fish_seen_subcommand_from save" -l idle-timeout -d 'Break off when a registry does nothing for so long [default: 90s]' -r
complete -c rpub -n "__fish_rpub_using_subcommand image; and __fish_seen_subcommand_from save" -l concurrency -d 'Move at most so many blobs at once each way [default: what the registry takes, up to 16]' -r
complete -c rpub -n "__fish_rpub_using_subcommand image; and __fish_seen_subcommand_from save" -l limit-rate -d 'Move at most so many bytes a second, both ways together, as in 5MB' -r
complete -c rpub -n "__fish_rpub_using_subcommand image; and __fish_seen_subcommand_from save" -l resolve -d 'Connect to this address for a registry\'s host and port (repeatable)' -r
complete -c rpub -n "__fish_rpub_using_subcommand image; and __fish_seen_subcommand_from save" -l http-header -d 'Send this header to registries; @FILE reads lines from a file (repeatable)' -r
complete -c rpub -n "__fish_rpub_using_subcommand image; and __fish_seen_subcommand_from save" -l user-agent-prefix -d 'Put this text before rpub\'s own in the user agent' -r
complete -c rpub -n "__fish_rpub_using_subcommand image; and __fish_seen_subcommand_from save" -l authfile -d 'Look for logins in this file only; login and logout change it' -r -F
complete -c rpub -n "__fish_rpub_using_subcommand image; and __fish_seen_subcommand_from save" -l src-authfile -d 'Look for logins for what is read from registries in this file only' -r -F
complete -c rpub -n "__fish_rpub_using_subcommand image; and __fish_seen_subcommand_from save" -l dest-authfile -d 'Look for logins for what is written to registries in this file only' -r -F
complete -c rpub -n "__fish_rpub_using_subcommand image; and __fish_seen_subcommand_from save" -l registry-token-file -d 'Send the bearer token in this file to this registry (repeatable)' -r
complete -c rpub -n "__fish_rpub_using_subcommand image; and __fish_seen_subcommand_from save" -s q -l quiet -d 'Show no progress, print only the result'
complete -c rpub -n "__fish_rpub_using_subcommand image; and __fish_seen_subcommand_from save" -l offline -d 'Open no connection to anybody: what is here counts, as it was last seen'
complete -c rpub -n "__fish_rpub_using_subcommand image; and __fish_seen_subcommand_from save" -s h -l help -d 'Print help (see more with \'--help\')'
complete -c rpub -n "__fish_rpub_using_subcommand image; and __fish_seen_subcommand_from load" -s i -l input -d 'Read this file or layout instead of standard input' -r -F
complete -c rpub -n "__fish_rpub_using_subcommand image; and __fish_seen_subcommand_from load" -l platform -d 'Of an index, load the images for these platforms [default: all]' -r
complete -c rpub -n "__fish_rpub_using_subcommand image; and __fish_seen_subcommand_from load" -l store -d 'Keep images, layers and the build cache here [default: ~/.local/share/rpub]' -r -F
complete -c rpub -n "__fish_rpub_using_subcommand image; and __fish_seen_subcommand_from load" -l cache-size -d 'Keep the build cache within this size [default: a fifth of the disk, 10 to 100 GiB]' -r
complete -c rpub -n "__fish_rpub_using_subcommand image; and __fish_seen_subcommand_from load" -l progress -d 'Show progress as auto, tty, plain, quiet or rawjson' -r -f -a "auto\t'Bars on a terminal, plain lines elsewhere'
tty\t'Bars'
plain\t'Numbered lines'
quiet\t'Nothing but warnings and errors'
rawjson\t'One JSON object a line, for programs'"
complete -c rpub -n "__fish_rpub_using_subcommand image; and __fish_seen_subcommand_from load" -l insecure-registry -d 'Allow TLS with any certificate, or else plain HTTP, for this registry (repeatable)' -r
complete -c rpub -n "__fish_rpub_using_subcommand image; and __fish_seen_subcommand_from load" -l plain-http -d 'Reach this registry by plain HTTP (repeatable)' -r
complete -c rpub -n "__fish_rpub_using_subcommand image; and __fish_seen_subcommand_from load" -l skip-tls-verify -d 'Do not verify the certificate of this registry (repeatable)' -r
complete -c rpub -n "__fish_rpub_using_subcommand image; and __fish_seen_subcommand_from load" -l ca-file -d 'Also trust the certificate authorities in this PEM file (repeatable)' -r -F
complete -c rpub -n "__fish_rpub_using_subcommand image; and __fish_seen_subcommand_from load" -l cert-dir -d 'Use the authorities (*.crt) and client certificate (*.cert, *.key) in this directory' -r -F
complete -c rpub -n "__fish_rpub_using_subcommand image; and __fish_seen_subcommand_from load" -l registries-conf -d 'Read mirrors from this file [default: containers/registries.conf in ~/.config or /etc]' -r -F
complete -c rpub -n "__fish_rpub_using_subcommand image; and __fish_seen_subcommand_from load" -l retry-times -d 'Try a failed request so many times more [default: 4]' -r
complete -c rpub -n "__fish_rpub_using_subcommand image; and __fish_seen_subcommand_from load" -l retry-delay -d 'Wait so long before the first retry, twice as long before each further one [default: 500ms]' -r
complete -c rpub -n "__fish_rpub_using_subcommand image; and __fish_seen_subcommand_from load" -l max-wait -d 'Give up at once when a registry asks for a longer wait than this [default: 1m]' -r
complete -c rpub -n "__fish_rpub_using_subcommand image; and __fish_seen_subcommand_from load" -l idle-timeout -d 'Break off when a registry does nothing for so long [default: 90s]' -r
complete -c rpub -n "__fish_rpub_using_subcommand image; and __fish_seen_subcommand_from load" -l concurrency -d 'Move at most so many blobs at once each way [default: what the registry takes, up to 16]' -r
complete -c rpub -n "__fish_rpub_using_subcommand image; and __fish_seen_subcommand_from load" -l limit-rate -d 'Move at most so many bytes a second, both ways together, as in 5MB' -r
complete -c rpub -n "__fish_rpub_using_subcommand image; and __fish_seen_subcommand_from load" -l resolve -d 'Connect to this address for a registry\'s host and port (repeatable)' -r
complete -c rpub -n "__fish_rpub_using_subcommand image; and __fish_seen_subcommand_from load" -l http-header -d 'Send this header to registries; @FILE reads lines from a file (repeatable)' -r
complete -c rpub -n "__fish_rpub_using_subcommand image; and __fish_seen_subcommand_from load" -l user-agent-prefix -d 'Put this text before rpub\'s own in the user agent' -r
complete -c rpub -n "__fish_rpub_using_subcommand image; and __fish_seen_subcommand_from load" -l authfile -d 'Look for logins in this file only; login and logout change it' -r -F
complete -c rpub -n "__fish_rpub_using_subcommand image; and __fish_seen_subcommand_from load" -l src-authfile -d 'Look for logins for what is read from registries in this file only' -r -F
complete -c rpub -n "__fish_rpub_using_subcommand image; and __fish_seen_subcommand_from load" -l dest-authfile -d 'Look for logins for what is written to registries in this file only' -r -F
complete -c rpub -n "__fish_rpub_using_subcommand image; and __fish_seen_subcommand_from load" -l registry-token-file -d 'Send the bearer token in this file to this registry (repeatable)' -r
complete -c rpub -n "__fish_rpub_using_subcommand image; and __fish_seen_subcommand_from load" -s q -l quiet -d 'Show no progress, print only the result'
complete -c rpub -n "__fish_rpub_using_subcommand image; and __fish_seen_subcommand_from load" -l offline -d 'Open no connection to anybody: what is here counts, as it was last seen'
complete -c rpub -n "__fish_rpub_using_subcommand image; and __fish_seen_subcommand_from load" -s h -l help -d 'Print help'
complete -c rpub -n "__fish_rpub_using_subcommand image; and __fish_seen_subcommand_from help" -f -a "build" -d 'Build an image from a Dockerfile'
complete -c rpub -n "__fish_rpub_using_subcommand image; and __fish_seen_subcommand_from help" -f -a "ls" -d 'List images'
complete -c rpub -n "__fish_rpub_using_subcommand image; and __fish_seen_subcommand_from help" -f -a "pull" -d 'Pull an image into the store'
complete -c rpub -n "__fish_rpub_using_subcommand image; and __fish_seen_subcommand_from help" -f -a "push" -d 'Push an image from the store to its registry'
complete -c rpub -n "__fish_rpub_using_subcommand image; and __fish_seen_subcommand_from help" -f -a "tag" -d 'Give an image another name'
complete -c rpub -n "__fish_rpub_using_subcommand image; and __fish_seen_subcommand_from help" -f -a "rm" -d 'Remove names and images'
complete -c rpub -n "__fish_rpub_using_subcommand image; and __fish_seen_subcommand_from help" -f -a "inspect" -d 'Show everything about an image'
complete -c rpub -n "__fish_rpub_using_subcommand image; and __fish_seen_subcommand_from help" -f -a "history" -d 'Show what made each layer of an image'
complete -c rpub -n "__fish_rpub_using_subcommand image; and __fish_seen_subcommand_from help" -f -a "import" -d 'Make an image from a root file system tar or directory'
complete -c rpub -n "__fish_rpub_using_subcommand image; and __fish_seen_subcommand_from help" -f -a "save" -d 'Write images of the store to a file, as docker save does'
complete -c rpub -n "__fish_rpub_using_subcommand image; and __fish_seen_subcommand_from help" -f -a "load" -d 'Read the images of a file into the store, as docker load does'
complete -c rpub -n "__fish_rpub_using_subcommand image; and __fish_seen_subcommand_from help" -f -a "help" -d 'Print this message or the help of the given subcommand(s)'
complete -c rpub -n "__fish_rpub_using_subcommand tag; and not __fish_seen_subcommand_from ls list rm remove help" -l store -d 'Keep images, layers and the build cache here [default: ~/.local/share/rpub]' -r -F
complete -c rpub -n "__fish_rpub_using_subcommand tag; and not __fish_seen_subcommand_from ls list rm remove help" -l cache-size -d 'Keep the build cache within this size [default: a fifth of the disk, 10 to 100 GiB]' -r
complete -c rpub -n "__fish_rpub_using_subcommand tag; and not __fish_seen_subcommand_from ls list rm remove help" -l progress -d 'Show progress as auto, tty, plain, quiet or rawjson' -r -f -a "auto\t'Bars on a terminal, plain lines elsewhere'
tty\t'Bars'
plain\t'Numbered lines'
quiet\t'Nothing but warnings and errors'
rawjson\t'One JSON object a line, for programs'"
complete -c rpub -n "__fish_rpub_using_subcommand tag; and not __fish_seen_subcommand_from ls list rm remove help" -l insecure-registry -d 'Allow TLS with any certificate, or else plain HTTP, for this registry (repeatable)' -r
complete -c rpub -n "__fish_rpub_using_subcommand tag; and not __fish_seen_subcommand_from ls list rm remove help" -l plain-http -d 'Reach this registry by plain HTTP (repeatable)' -r
complete -c rpub -n "__fish_rpub_using_subcommand tag; and not __fish_seen_subcommand_from ls list rm remove help" -l skip-tls-verify -d 'Do not verify the certificate of this registry (repeatable)' -r
complete -c rpub -n "__fish_rpub_using_subcommand tag; and not __fish_seen_subcommand_from ls list rm remove help" -l ca-file -d 'Also trust the certificate authorities in this PEM file (repeatable)' -r -F
complete -c rpub -n "__fish_rpub_using_subcommand tag; and not __fish_seen_subcommand_from ls list rm remove help" -l cert-dir -d 'Use the authorities (*.crt) and client certificate (*.cert, *.key) in this directory' -r -F
complete -c rpub -n "__fish_rpub_using_subcommand tag; and not __fish_seen_subcommand_from ls list rm remove help" -l registries-conf -d 'Read mirrors from this file [default: containers/registries.conf in ~/.config or /etc]' -r -F
complete -c rpub -n "__fish_rpub_using_subcommand tag; and not __fish_seen_subcommand_from ls list rm remove help" -l retry-times -d 'Try a failed request so many times more [default: 4]' -r
complete -c rpub -n "__fish_rpub_using_subcommand tag; and not __fish_seen_subcommand_from ls list rm remove help" -l retry-delay -d 'Wait so long before the first retry, twice as long before each further one [default: 500ms]' -r
complete -c rpub -n "__fish_rpub_using_subcommand tag; and not __fish_seen_subcommand_from ls list rm remove help" -l max-wait -d 'Give up at once when a registry asks for a longer wait than this [default: 1m]' -r
complete -c rpub -n "__fish_rpub_using_subcommand tag; and not __fish_seen_subcommand_from ls list rm remove help" -l idle-timeout -d 'Break off when a registry does nothing for so long [default: 90s]' -r
complete -c rpub -n "__fish_rpub_using_subcommand tag; and not __fish_seen_subcommand_from ls list rm remove help" -l concurrency -d 'Move at most so many blobs at once each way [default: what the registry takes, up to 16]' -r
complete -c rpub -n "__fish_rpub_using_subcommand tag; and not __fish_seen_subcommand_from ls list rm remove help" -l limit-rate -d 'Move at most so many bytes a second, both ways together, as in 5MB' -r
complete -c rpub -n "__fish_rpub_using_subcommand tag; and not __fish_seen_subcommand_from ls list rm remove help" -l resolve -d 'Connect to this address for a registry\'s host and port (repeatable)' -r
complete -c rpub -n "__fish_rpub_using_subcommand tag; and not __fish_seen_subcommand_from ls list rm remove help" -l http-header -d 'Send this header to registries; @FILE reads lines from a file (repeatable)' -r
complete -c rpub -n "__fish_rpub_using_subcommand tag; and not __fish_seen_subcommand_from ls list rm remove help" -l user-agent-prefix -d 'Put this text before rpub\'s own in the user agent' -r
complete -c rpub -n "__fish_rpub_using_subcommand tag; and not __fish_seen_subcommand_from ls list rm remove help" -l authfile -d 'Look for logins in this file only; login and logout change it' -r -F
complete -c rpub -n "__fish_rpub_using_subcommand tag; and not __fish_seen_subcommand_from ls list rm remove help" -l src-authfile -d 'Look for logins for what is read from registries in this file only' -r -F
complete -c rpub -n "__fish_rpub_using_subcommand tag; and not __fish_seen_subcommand_from ls list rm remove help" -l dest-authfile -d 'Look for logins for what is written to registries in this file only' -r -F
complete -c rpub -n "__fish_rpub_using_subcommand tag; and not __fish_seen_subcommand_from ls list rm remove help" -l registry-token-file -d 'Send the bearer token in this file to this registry (repeatable)' -r
complete -c rpub -n "__fish_rpub_using_subcommand tag; and not __fish_seen_subcommand_from ls list rm remove help" -s q -l quiet -d 'Show no progress, print only the result'
complete -c rpub -n "__fish_rpub_using_subcommand tag; and not __fish_seen_subcommand_from ls list rm remove help" -l offline -d 'Open no connection to anybody: what is here counts, as it was last seen'
complete -c rpub -n "__fish_rpub_using_subcommand tag; and not __fish_seen_subcommand_from ls list rm remove help" -s h -l help -d 'Print help'
complete -c rpub -n "__fish_rpub_using_subcommand tag; and not __fish_seen_subcommand_from ls list rm remove help" -a "ls" -d 'List the tags of a repository in its registry'
complete -c rpub -n "__fish_rpub_using_subcommand tag; and not __fish_seen_subcommand_from ls list rm remove help" -a "list" -d 'List the tags of a repository in its registry'
complete -c rpub -n "__fish_rpub_using_subcommand tag; and not __fish_seen_subcommand_from ls list rm remove help" -a "rm" -d 'Remove tags from a registry, and leave the images'
complete -c rpub -n "__fish_rpub_using_subcommand tag; and not __fish_seen_subcommand_from ls list rm remove help" -a "remove" -d 'Remove tags from a registry, and leave the images'
complete -c rpub -n "__fish_rpub_using_subcommand tag; and not __fish_seen_subcommand_from ls list rm remove help" -a "help" -d 'Print this message or the help of the given subcommand(s)'
complete -c rpub -n "__fish_rpub_using_subcommand tag; and __fish_seen_subcommand_from ls" -l include -d 'List only names that this regular expression matches from start to end (repeatable)' -r
complete -c rpub -n "__fish_rpub_using_subcommand tag; and __fish_seen_subcommand_from ls" -l exclude -d 'Leave out names that this regular expression matches from start to end (repeatable)' -r
complete -c rpub -n "__fish_rpub_using_subcommand tag; and __fish_seen_subcommand_from ls" -l last -d 'List only names after this one, in the registry\'s order' -r
complete -c rpub -n "__fish_rpub_using_subcommand tag; and __fish_seen_subcommand_from ls" -l limit -d 'List this many names at most' -r
complete -c rpub -n "__fish_rpub_using_subcommand tag; and __fish_seen_subcommand_from ls" -l sort -d 'Sort by name, or by version (what is none comes first) [default: the registry\'s order]' -r -f -a "name\t'By name'
semver\t'By version'"
complete -c rpub -n "__fish_rpub_using_subcommand tag; and __fish_seen_subcommand_from ls" -l format -d 'Print json, the template given, or with table before it a table: \'table {{.ID}}\'' -r
complete -c rpub -n "__fish_rpub_using_subcommand tag; and __fish_seen_subcommand_from ls" -l store -d 'Keep images, layers and the build cache here [default: ~/.local/share/rpub]' -r -F
complete -c rpub -n "__fish_rpub_using_subcommand tag; and __fish_seen_subcommand_from ls" -l cache-size -d 'Keep the build cache within this size [default: a fifth of the disk, 10 to 100 GiB]' -r
complete -c rpub -n "__fish_rpub_using_subcommand tag; and __fish_seen_subcommand_from ls" -l progress -d 'Show progress as auto, tty, plain, quiet or rawjson' -r -f -a "auto\t'Bars on a terminal, plain lines elsewhere'
tty\t'Bars'
plain\t'Numbered lines'
quiet\t'Nothing but warnings and errors'
rawjson\t'One JSON object a line, for programs'"
complete -c rpub -n "__fish_rpub_using_subcommand tag; and __fish_seen_subcommand_from ls" -l insecure-registry -d 'Allow TLS with any certificate, or else plain HTTP, for this registry (repeatable)' -r
complete -c rpub -n "__fish_rpub_using_subcommand tag; and __fish_seen_subcommand_from ls" -l plain-http -d 'Reach this registry by plain HTTP (repeatable)' -r
complete -c rpub -n "__fish_rpub_using_subcommand tag; and __fish_seen_subcommand_from ls" -l skip-tls-verify -d 'Do not verify the certificate of this registry (repeatable)' -r
complete -c rpub -n "__fish_rpub_using_subcommand tag; and __fish_seen_subcommand_from ls" -l ca-file -d 'Also trust the certificate authorities in this PEM file (repeatable)' -r -F
complete -c rpub -n "__fish_rpub_using_subcommand tag; and __fish_seen_subcommand_from ls" -l cert-dir -d 'Use the authorities (*.crt) and client certificate (*.cert, *.key) in this directory' -r -F
complete -c rpub -n "__fish_rpub_using_subcommand tag; and __fish_seen_subcommand_from ls" -l registries-conf -d 'Read mirrors from this file [default: containers/registries.conf in ~/.config or /etc]' -r -F
complete -c rpub -n "__fish_rpub_using_subcommand tag; and __fish_seen_subcommand_from ls" -l retry-times -d 'Try a failed request so many times more [default: 4]' -r
complete -c rpub -n "__fish_rpub_using_subcommand tag; and __fish_seen_subcommand_from ls" -l retry-delay -d 'Wait so long before the first retry, twice as long before each further one [default: 500ms]' -r
complete -c rpub -n "__fish_rpub_using_subcommand tag; and __fish_seen_subcommand_from ls" -l max-wait -d 'Give up at once when a registry asks for a longer wait than this [default: 1m]' -r
complete -c rpub -n "__fish_rpub_using_subcommand tag; and __fish_seen_subcommand_from ls" -l idle-timeout -d 'Break off when a registry does nothing for so long [default: 90s]' -r
complete -c rpub -n "__fish_rpub_using_subcommand tag; and __fish_seen_subcommand_from ls" -l concurrency -d 'Move at most so many blobs at once each way [default: what the registry takes, up to 16]' -r
complete -c rpub -n "__fish_rpub_using_subcommand tag; and __fish_seen_subcommand_from ls" -l limit-rate -d 'Move at most so many bytes a second, both ways together, as in 5MB' -r
complete -c rpub -n "__fish_rpub_using_subcommand tag; and __fish_seen_subcommand_from ls" -l resolve -d 'Connect to this address for a registry\'s host and port (repeatable)' -r
complete -c rpub -n "__fish_rpub_using_subcommand tag; and __fish_seen_subcommand_from ls" -l http-header -d 'Send this header to registries; @FILE reads lines from a file (repeatable)' -r
complete -c rpub -n "__fish_rpub_using_subcommand tag; and __fish_seen_subcommand_from ls" -l user-agent-prefix -d 'Put this text before rpub\'s own in the user agent' -r
complete -c rpub -n "__fish_rpub_using_subcommand tag; and __fish_seen_subcommand_from ls" -l authfile -d 'Look for logins in this file only; login and logout change it' -r -F
complete -c rpub -n "__fish_rpub_using_subcommand tag; and __fish_seen_subcommand_from ls" -l src-authfile -d 'Look for logins for what is read from registries in this file only' -r -F
complete -c rpub -n "__fish_rpub_using_subcommand tag; and __fish_seen_subcommand_from ls" -l dest-authfile -d 'Look for logins for what is written to registries in this file only' -r -F
complete -c rpub -n "__fish_rpub_using_subcommand tag; and __fish_seen_subcommand_from ls" -l registry-token-file -d 'Send the bearer token in this file to this registry (repeatable)' -r
complete -c rpub -n "__fish_rpub_using_subcommand tag; and __fish_seen_subcommand_from ls" -s q -l quiet -d 'Show no progress, print only the result'
complete -c rpub -n "__fish_rpub_using_subcommand tag; and __fish_seen_subcommand_from ls" -l offline -d 'Open no connection to anybody: what is here counts, as it was last seen'
complete -c rpub -n "__fish_rpub_using_subcommand tag; and __fish_seen_subcommand_from ls" -s h -l help -d 'Print help (see more with \'--help\')'
complete -c rpub -n "__fish_rpub_using_subcommand tag; and __fish_seen_subcommand_from list" -l include -d 'List only names that this regular expression matches from start to end (repeatable)' -r
complete -c rpub -n "__fish_rpub_using_subcommand tag; and __fish_seen_subcommand_from list" -l exclude -d 'Leave out names that this regular expression matches from start to end (repeatable)' -r
complete -c rpub -n "__fish_rpub_using_subcommand tag; and __fish_seen_subcommand_from list" -l last -d 'List only names after this one, in the registry\'s order' -r
complete -c rpub -n "__fish_rpub_using_subcommand tag; and __fish_seen_subcommand_from list" -l limit -d 'List this many names at most' -r
complete -c rpub -n "__fish_rpub_using_subcommand tag; and __fish_seen_subcommand_from list" -l sort -d 'Sort by name, or by version (what is none comes first) [default: the registry\'s order]' -r -f -a "name\t'By name'
semver\t'By version'"
complete -c rpub -n "__fish_rpub_using_subcommand tag; and __fish_seen_subcommand_from list" -l format -d 'Print json, the template given, or with table before it a table: \'table {{.ID}}\'' -r
complete -c rpub -n "__fish_rpub_using_subcommand tag; and __fish_seen_subcommand_from list" -l store -d 'Keep images, layers and the build cache here [default: ~/.local/share/rpub]' -r -F
complete -c rpub -n "__fish_rpub_using_subcommand tag; and __fish_seen_subcommand_from list" -l cache-size -d 'Keep the build cache within this size [default: a fifth of the disk, 10 to 100 GiB]' -r
complete -c rpub -n "__fish_rpub_using_subcommand tag; and __fish_seen_subcommand_from list" -l progress -d 'Show progress as auto, tty, plain, quiet or rawjson' -r -f -a "auto\t'Bars on a terminal, plain lines elsewhere'
tty\t'Bars'
plain\t'Numbered lines'
quiet\t'Nothing but warnings and errors'
rawjson\t'One JSON object a line, for programs'"
complete -c rpub -n "__fish_rpub_using_subcommand tag; and __fish_seen_subcommand_from list" -l insecure-registry -d 'Allow TLS with any certificate, or else plain HTTP, for this registry (repeatable)' -r
complete -c rpub -n "__fish_rpub_using_subcommand tag; and __fish_seen_subcommand_from list" -l plain-http -d 'Reach this registry by plain HTTP (repeatable)' -r
complete -c rpub -n "__fish_rpub_using_subcommand tag; and __fish_seen_subcommand_from list" -l skip-tls-verify -d 'Do not verify the certificate of this registry (repeatable)' -r
complete -c rpub -n "__fish_rpub_using_subcommand tag; and __fish_seen_subcommand_from list" -l ca-file -d 'Also trust the certificate authorities in this PEM file (repeatable)' -r -F
complete -c rpub -n "__fish_rpub_using_subcommand tag; and __fish_seen_subcommand_from list" -l cert-dir -d 'Use the authorities (*.crt) and client certificate (*.cert, *.key) in this directory' -r -F
complete -c rpub -n "__fish_rpub_using_subcommand tag; and __fish_seen_subcommand_from list" -l registries-conf -d 'Read mirrors from this file [default: containers/registries.conf in ~/.config or /etc]' -r -F
complete -c rpub -n "__fish_rpub_using_subcommand tag; and __fish_seen_subcommand_from list" -l retry-times -d 'Try a failed request so many times more [default: 4]' -r
complete -c rpub -n "__fish_rpub_using_subcommand tag; and __fish_seen_subcommand_from list" -l retry-delay -d 'Wait so long before the first retry, twice as long before each further one [default: 500ms]' -r
complete -c rpub -n "__fish_rpub_using_subcommand tag; and __fish_seen_subcommand_from list" -l max-wait -d 'Give up at once when a registry asks for a longer wait than this [default: 1m]' -r
complete -c rpub -n "__fish_rpub_using_subcommand tag; and __fish_seen_subcommand_from list" -l idle-timeout -d 'Break off when a registry does nothing for so long [default: 90s]' -r
complete -c rpub -n "__fish_rpub_using_subcommand tag; and __fish_seen_subcommand_from list" -l concurrency -d 'Move at most so many blobs at once each way [default: what the registry takes, up to 16]' -r
complete -c rpub -n "__fish_rpub_using_subcommand tag; and __fish_seen_subcommand_from list" -l limit-rate -d 'Move at most so many bytes a second, both ways together, as in 5MB' -r
complete -c rpub -n "__fish_rpub_using_subcommand tag; and __fish_seen_subcommand_from list" -l resolve -d 'Connect to this address for a registry\'s host and port (repeatable)' -r
complete -c rpub -n "__fish_rpub_using_subcommand tag; and __fish_seen_subcommand_from list" -l http-header -d 'Send this header to registries; @FILE reads lines from a file (repeatable)' -r
complete -c rpub -n "__fish_rpub_using_subcommand tag; and __fish_seen_subcommand_from list" -l user-agent-prefix -d 'Put this text before rpub\'s own in the user agent' -r
complete -c rpub -n "__fish_rpub_using_subcommand tag; and __fish_seen_subcommand_from list" -l authfile -d 'Look for logins in this file only; login and logout change it' -r -F
complete -c rpub -n "__fish_rpub_using_subcommand tag; and __fish_seen_subcommand_from list" -l src-authfile -d 'Look for logins for what is read from registries in this file only' -r -F
complete -c rpub -n "__fish_rpub_using_subcommand tag; and __fish_seen_subcommand_from list" -l dest-authfile -d 'Look for logins for what is written to registries in this file only' -r -F
complete -c rpub -n "__fish_rpub_using_subcommand tag; and __fish_seen_subcommand_from list" -l registry-token-file -d 'Send the bearer token in this file to this registry (repeatable)' -r
complete -c rpub -n "__fish_rpub_using_subcommand tag; and __fish_seen_subcommand_from list" -s q -l quiet -d 'Show no progress, print only the result'
complete -c rpub -n "__fish_rpub_using_subcommand tag; and __fish_seen_subcommand_from list" -l offline -d 'Open no connection to anybody: what is here counts, as it was last seen'
complete -c rpub -n "__fish_rpub_using_subcommand tag; and __fish_seen_subcommand_from list" -s h -l help -d 'Print help (see more with \'--help\')'
complete -c rpub -n "__fish_rpub_using_subcommand tag; and __fish_seen_subcommand_from rm" -l format -d 'Print json, the template given, or with table before it a table: \'table {{.ID}}\'' -r
complete -c rpub -n "__fish_rpub_using_subcommand tag; and __fish_seen_subcommand_from rm" -l store -d 'Keep images, layers and the build cache here [default: ~/.local/share/rpub]' -r -F
complete -c rpub -n "__fish_rpub_using_subcommand tag; and __fish_seen_subcommand_from rm" -l cache-size -d 'Keep the build cache within this size [default: a fifth of the disk, 10 to 100 GiB]' -r
complete -c rpub -n "__fish_rpub_using_subcommand tag; and __fish_seen_subcommand_from rm" -l progress -d 'Show progress as auto, tty, plain, quiet or rawjson' -r -f -a "auto\t'Bars on a terminal, plain lines elsewhere'
tty\t'Bars'
plain\t'Numbered lines'
quiet\t'Nothing but warnings and errors'
rawjson\t'One JSON object a line, for programs'"
complete -c rpub -n "__fish_rpub_using_subcommand tag; and __fish_seen_subcommand_from rm" -l insecure-registry -d 'Allow TLS with any certificate, or else plain HTTP, for this registry (repeatable)' -r
complete -c rpub -n "__fish_rpub_using_subcommand tag; and __fish_seen_subcommand_from rm" -l plain-http -d 'Reach this registry by plain HTTP (repeatable)' -r
complete -c rpub -n "__fish_rpub_using_subcommand tag; and __fish_seen_subcommand_from rm" -l skip-tls-verify -d 'Do not verify the certificate of this registry (repeatable)' -r
complete -c rpub -n "__fish_rpub_using_subcommand tag; and __fish_seen_subcommand_from rm" -l ca-file -d 'Also trust the certificate authorities in this PEM file (repeatable)' -r -F
complete -c rpub -n "__fish_rpub_using_subcommand tag; and __fish_seen_subcommand_from rm" -l cert-dir -d 'Use the authorities (*.crt) and client certificate (*.cert, *.key) in this directory' -r -F
complete -c rpub -n "__fish_rpub_using_subcommand tag; and __fish_seen_subcommand_from rm" -l registries-conf -d 'Read mirrors from this file [default: containers/registries.conf in ~/.config or /etc]' -r -F
complete -c rpub -n "__fish_rpub_using_subcommand tag; and __fish_seen_subcommand_from rm" -l retry-times -d 'Try a failed request so many times more [default: 4]' -r
complete -c rpub -n "__fish_rpub_using_subcommand tag; and __fish_seen_subcommand_from rm" -l retry-delay -d 'Wait so long before the first retry, twice as long before each further one [default: 500ms]' -r
complete -c rpub -n "__fish_rpub_using_subcommand tag; and __fish_seen_subcommand_from rm" -l max-wait -d 'Give up at once when a registry asks for a longer wait than this [default: 1m]' -r
complete -c rpub -n "__fish_rpub_using_subcommand tag; and __fish_seen_subcommand_from rm" -l idle-timeout -d 'Break off when a registry does nothing for so long [default: 90s]' -r
complete -c rpub -n "__fish_rpub_using_subcommand tag; and __fish_seen_subcommand_from rm" -l concurrency -d 'Move at most so many blobs at once each way [default: what the registry takes, up to 16]' -r
complete -c rpub -n "__fish_rpub_using_subcommand tag; and __fish_seen_subcommand_from rm" -l limit-rate -d 'Move at most so many bytes a second, both ways together, as in 5MB' -r
complete -c rpub -n "__fish_rpub_using_subcommand tag; and __fish_seen_subcommand_from rm" -l resolve -d 'Connect to this address for a registry\'s host and port (repeatable)' -r
complete -c rpub -n "__fish_rpub_using_subcommand tag; and __fish_seen_subcommand_from rm" -l http-header -d 'Send this header to registries; @FILE reads lines from a file (repeatable)' -r
complete -c rpub -n "__fish_rpub_using_subcommand tag; and __fish_seen_subcommand_from rm" -l user-agent-prefix -d 'Put this text before rpub\'s own in the user agent' -r
complete -c rpub -n "__fish_rpub_using_subcommand tag; and __fish_seen_subcommand_from rm" -l authfile -d 'Look for logins in this file only; login and logout change it' -r -F
complete -c rpub -n "__fish_rpub_using_subcommand tag; and __fish_seen_subcommand_from rm" -l src-authfile -d 'Look for logins for what is read from registries in this file only' -r -F
complete -c rpub -n "__fish_rpub_using_subcommand tag; and __fish_seen_subcommand_from rm" -l dest-authfile -d 'Look for logins for what is written to registries in this file only' -r -F
complete -c rpub -n "__fish_rpub_using_subcommand tag; and __fish_seen_subcommand_from rm" -l registry-token-file -d 'Send the bearer token in this file to this registry (repeatable)' -r
complete -c rpub -n "__fish_rpub_using_subcommand tag; and __fish_seen_subcommand_from rm" -s f -l force -d 'Where a registry can only delete whole images, do so though other tags go too'
complete -c rpub -n "__fish_rpub_using_subcommand tag; and __fish_seen_subcommand_from rm" -s q -l quiet -d 'Show no progress, print only the result'
complete -c rpub -n "__fish_rpub_using_subcommand tag; and __fish_seen_subcommand_from rm" -l offline -d 'Open no connection to anybody: what is here counts, as it was last seen'
complete -c rpub -n "__fish_rpub_using_subcommand tag; and __fish_seen_subcommand_from rm" -s h -l help -d 'Print help'
complete -c rpub -n "__fish_rpub_using_subcommand tag; and __fish_seen_subcommand_from remove" -l format -d 'Print json, the template given, or with table before it a table: \'table {{.ID}}\'' -r
complete -c rpub -n "__fish_rpub_using_subcommand tag; and __fish_seen_subcommand_from remove" -l store -d 'Keep images, layers and the build cache here [default: ~/.local/share/rpub]' -r -F
complete -c rpub -n "__fish_rpub_using_subcommand tag; and __fish_seen_subcommand_from remove" -l cache-size -d 'Keep the build cache within this size [default: a fifth of the disk, 10 to 100 GiB]' -r
complete -c rpub -n "__fish_rpub_using_subcommand tag; and __fish_seen_subcommand_from remove" -l progress -d 'Show progress as auto, tty, plain, quiet or rawjson' -r -f -a "auto\t'Bars on a terminal, plain lines elsewhere'
tty\t'Bars'
plain\t'Numbered lines'
quiet\t'Nothing but warnings and errors'
rawjson\t'One JSON object a line, for programs'"
complete -c rpub -n "__fish_rpub_using_subcommand tag; and __fish_seen_subcommand_from remove" -l insecure-registry -d 'Allow TLS with any certificate, or else plain HTTP, for this registry (repeatable)' -r
complete -c rpub -n "__fish_rpub_using_subcommand tag; and __fish_seen_subcommand_from remove" -l plain-http -d 'Reach this registry by plain HTTP (repeatable)' -r
complete -c rpub -n "__fish_rpub_using_subcommand tag; and __fish_seen_subcommand_from remove" -l skip-tls-verify -d 'Do not verify the certificate of this registry (repeatable)' -r
complete -c rpub -n "__fish_rpub_using_subcommand tag; and __fish_seen_subcommand_from remove" -l ca-file -d 'Also trust the certificate authorities in this PEM file (repeatable)' -r -F
complete -c rpub -n "__fish_rpub_using_subcommand tag; and __fish_seen_subcommand_from remove" -l cert-dir -d 'Use the authorities (*.crt) and client certificate (*.cert, *.key) in this directory' -r -F
complete -c rpub -n "__fish_rpub_using_subcommand tag; and __fish_seen_subcommand_from remove" -l registries-conf -d 'Read mirrors from this file [default: containers/registries.conf in ~/.config or /etc]' -r -F
complete -c rpub -n "__fish_rpub_using_subcommand tag; and __fish_seen_subcommand_from remove" -l retry-times -d 'Try a failed request so many times more [default: 4]' -r
complete -c rpub -n "__fish_rpub_using_subcommand tag; and __fish_seen_subcommand_from remove" -l retry-delay -d 'Wait so long before the first retry, twice as long before each further one [default: 500ms]' -r
complete -c rpub -n "__fish_rpub_using_subcommand tag; and __fish_seen_subcommand_from remove" -l max-wait -d 'Give up at once when a registry asks for a longer wait than this [default: 1m]' -r
complete -c rpub -n "__fish_rpub_using_subcommand tag; and __fish_seen_subcommand_from remove" -l idle-timeout -d 'Break off when a registry does nothing for so long [default: 90s]' -r
complete -c rpub -n "__fish_rpub_using_subcommand tag; and __fish_seen_subcommand_from remove" -l concurrency -d 'Move at most so many blobs at once each way [default: what the registry takes, up to 16]' -r
complete -c rpub -n "__fish_rpub_using_subcommand tag; and __fish_seen_subcommand_from remove" -l limit-rate -d 'Move at most so many bytes a second, both ways together, as in 5MB' -r
complete -c rpub -n "__fish_rpub_using_subcommand tag; and __fish_seen_subcommand_from remove" -l resolve -d 'Connect to this address for a registry\'s host and port (repeatable)' -r
complete -c rpub -n "__fish_rpub_using_subcommand tag; and __fish_seen_subcommand_from remove" -l http-header -d 'Send this header to registries; @FILE reads lines from a file (repeatable)' -r
complete -c rpub -n "__fish_rpub_using_subcommand tag; and __fish_seen_subcommand_from remove" -l user-agent-prefix -d 'Put this text before rpub\'s own in the user agent' -r
complete -c rpub -n "__fish_rpub_using_subcommand tag; and __fish_seen_subcommand_from remove" -l authfile -d 'Look for logins in this file only; login and logout change it' -r -F
complete -c rpub -n "__fish_rpub_using_subcommand tag; and __fish_seen_subcommand_from remove" -l src-authfile -d 'Look for logins for what is read from registries in this file only' -r -F
complete -c rpub -n "__fish_rpub_using_subcommand tag; and __fish_seen_subcommand_from remove" -l dest-authfile -d 'Look for logins for what is written to registries in this file only' -r -F
complete -c rpub -n "__fish_rpub_using_subcommand tag; and __fish_seen_subcommand_from remove" -l registry-token-file -d 'Send the bearer token in this file to this registry (repeatable)' -r
complete -c rpub -n "__fish_rpub_using_subcommand tag; and __fish_seen_subcommand_from remove" -s f -l force -d 'Where a registry can only delete whole images, do so though other tags go too'
complete -c rpub -n "__fish_rpub_using_subcommand tag; and __fish_seen_subcommand_from remove" -s q -l quiet -d 'Show no progress, print only the result'
complete -c rpub -n "__fish_rpub_using_subcommand tag; and __fish_seen_subcommand_from remove" -l offline -d 'Open no connection to anybody: what is here counts, as it was last seen'
complete -c rpub -n "__fish_rpub_using_subcommand tag; and __fish_seen_subcommand_from remove" -s h -l help -d 'Print help'
complete -c rpub -n "__fish_rpub_using_subcommand tag; and __fish_seen_subcommand_from help" -f -a "ls" -d 'List the tags of a repository in its registry'
complete -c rpub -n "__fish_rpub_using_subcommand tag; and __fish_seen_subcommand_from help" -f -a "rm" -d 'Remove tags from a registry, and leave the images'
complete -c rpub -n "__fish_rpub_using_subcommand tag; and __fish_seen_subcommand_from help" -f -a "help" -d 'Print this message or the help of the given subcommand(s)'
complete -c rpub -n "__fish_rpub_using_subcommand rmi" -l store -d 'Keep images, layers and the build cache here [default: ~/.local/share/rpub]' -r -F
complete -c rpub -n "__fish_rpub_using_subcommand rmi" -l cache-size -d 'Keep the build cache within this size [default: a fifth of the disk, 10 to 100 GiB]' -r
complete -c rpub -n "__fish_rpub_using_subcommand rmi" -l progress -d 'Show progress as auto, tty, plain, quiet or rawjson' -r -f -a "auto\t'Bars on a terminal, plain lines elsewhere'
tty\t'Bars'
plain\t'Numbered lines'
quiet\t'Nothing but warnings and errors'
rawjson\t'One JSON object a line, for programs'"
complete -c rpub -n "__fish_rpub_using_subcommand rmi" -l insecure-registry -d 'Allow TLS with any certificate, or else plain HTTP, for this registry (repeatable)' -r
complete -c rpub -n "__fish_rpub_using_subcommand rmi" -l plain-http -d 'Reach this registry by plain HTTP (repeatable)' -r
complete -c rpub -n "__fish_rpub_using_subcommand rmi" -l skip-tls-verify -d 'Do not verify the certificate of this registry (repeatable)' -r
complete -c rpub -n "__fish_rpub_using_subcommand rmi" -l ca-file -d 'Also trust the certificate authorities in this PEM file (repeatable)' -r -F
complete -c rpub -n "__fish_rpub_using_subcommand rmi" -l cert-dir -d 'Use the authorities (*.crt) and client certificate (*.cert, *.key) in this directory' -r -F
complete -c rpub -n "__fish_rpub_using_subcommand rmi" -l registries-conf -d 'Read mirrors from this file [default: containers/registries.conf in ~/.config or /etc]' -r -F
complete -c rpub -n "__fish_rpub_using_subcommand rmi" -l retry-times -d 'Try a failed request so many times more [default: 4]' -r
complete -c rpub -n "__fish_rpub_using_subcommand rmi" -l retry-delay -d 'Wait so long before the first retry, twice as long before each further one [default: 500ms]' -r
complete -c rpub -n "__fish_rpub_using_subcommand rmi" -l max-wait -d 'Give up at once when a registry asks for a longer wait than this [default: 1m]' -r
complete -c rpub -n "__fish_rpub_using_subcommand rmi" -l idle-timeout -d 'Break off when a registry does nothing for so long [default: 90s]' -r
complete -c rpub -n "__fish_rpub_using_subcommand rmi" -l concurrency -d 'Move at most so many blobs at once each way [default: what the registry takes, up to 16]' -r
complete -c rpub -n "__fish_rpub_using_subcommand rmi" -l limit-rate -d 'Move at most so many bytes a second, both ways together, as in 5MB' -r
complete -c rpub -n "__fish_rpub_using_subcommand rmi" -l resolve -d 'Connect to this address for a registry\'s host and port (repeatable)' -r
complete -c rpub -n "__fish_rpub_using_subcommand rmi" -l http-header -d 'Send this header to registries; @FILE reads lines from a file (repeatable)' -r
complete -c rpub -n "__fish_rpub_using_subcommand rmi" -l user-agent-prefix -d 'Put this text before rpub\'s own in the user agent' -r
complete -c rpub -n "__fish_rpub_using_subcommand rmi" -l authfile -d 'Look for logins in this file only; login and logout change it' -r -F
complete -c rpub -n "__fish_rpub_using_subcommand rmi" -l src-authfile -d 'Look for logins for what is read from registries in this file only' -r -F
complete -c rpub -n "__fish_rpub_using_subcommand rmi" -l dest-authfile -d 'Look for logins for what is written to registries in this file only' -r -F
complete -c rpub -n "__fish_rpub_using_subcommand rmi" -l registry-token-file -d 'Send the bearer token in this file to this registry (repeatable)' -r
complete -c rpub -n "__fish_rpub_using_subcommand rmi" -s f -l force -d 'Remove an image given by its id though it has several names'
complete -c rpub -n "__fish_rpub_using_subcommand rmi" -s q -l quiet -d 'Show no progress, print only the result'
complete -c rpub -n "__fish_rpub_using_subcommand rmi" -l offline -d 'Open no connection to anybody: what is here counts, as it was last seen'
complete -c rpub -n "__fish_rpub_using_subcommand rmi" -s h -l help -d 'Print help'
complete -c rpub -n "__fish_rpub_using_subcommand inspect" -l format -d 'Print json, the template given, or with table before it a table: \'table {{.ID}}\'' -r
complete -c rpub -n "__fish_rpub_using_subcommand inspect" -l store -d 'Keep images, layers and the build cache here [default: ~/.local/share/rpub]' -r -F
complete -c rpub -n "__fish_rpub_using_subcommand inspect" -l cache-size -d 'Keep the build cache within this size [default: a fifth of the disk, 10 to 100 GiB]' -r
complete -c rpub -n "__fish_rpub_using_subcommand inspect" -l progress -d 'Show progress as auto, tty, plain, quiet or rawjson' -r -f -a "auto\t'Bars on a terminal, plain lines elsewhere'
tty\t'Bars'
plain\t'Numbered lines'
quiet\t'Nothing but warnings and errors'
rawjson\t'One JSON object a line, for programs'"
complete -c rpub -n "__fish_rpub_using_subcommand inspect" -l insecure-registry -d 'Allow TLS with any certificate, or else plain HTTP, for this registry (repeatable)' -r
complete -c rpub -n "__fish_rpub_using_subcommand inspect" -l plain-http -d 'Reach this registry by plain HTTP (repeatable)' -r
complete -c rpub -n "__fish_rpub_using_subcommand inspect" -l skip-tls-verify -d 'Do not verify the certificate of this registry (repeatable)' -r
complete -c rpub -n "__fish_rpub_using_subcommand inspect" -l ca-file -d 'Also trust the certificate authorities in this PEM file (repeatable)' -r -F
complete -c rpub -n "__fish_rpub_using_subcommand inspect" -l cert-dir -d 'Use the authorities (*.crt) and client certificate (*.cert, *.key) in this directory' -r -F
complete -c rpub -n "__fish_rpub_using_subcommand inspect" -l registries-conf -d 'Read mirrors from this file [default: containers/registries.conf in ~/.config or /etc]' -r -F
complete -c rpub -n "__fish_rpub_using_subcommand inspect" -l retry-times -d 'Try a failed request so many times more [default: 4]' -r
complete -c rpub -n "__fish_rpub_using_subcommand inspect" -l retry-delay -d 'Wait so long before the first retry, twice as long before each further one [default: 500ms]' -r
complete -c rpub -n "__fish_rpub_using_subcommand inspect" -l max-wait -d 'Give up at once when a registry asks for a longer wait than this [default: 1m]' -r
complete -c rpub -n "__fish_rpub_using_subcommand inspect" -l idle-timeout -d 'Break off when a registry does nothing for so long [default: 90s]' -r
complete -c rpub -n "__fish_rpub_using_subcommand inspect" -l concurrency -d 'Move at most so many blobs at once each way [default: what the registry takes, up to 16]' -r
complete -c rpub -n "__fish_rpub_using_subcommand inspect" -l limit-rate -d 'Move at most so many bytes a second, both ways together, as in 5MB' -r
complete -c rpub -n "__fish_rpub_using_subcommand inspect" -l resolve -d 'Connect to this address for a registry\'s host and port (repeatable)' -r
complete -c rpub -n "__fish_rpub_using_subcommand inspect" -l http-header -d 'Send this header to registries; @FILE reads lines from a file (repeatable)' -r
complete -c rpub -n "__fish_rpub_using_subcommand inspect" -l user-agent-prefix -d 'Put this text before rpub\'s own in the user agent' -r
complete -c rpub -n "__fish_rpub_using_subcommand inspect" -l authfile -d 'Look for logins in this file only; login and logout change it' -r -F
complete -c rpub -n "__fish_rpub_using_subcommand inspect" -l src-authfile -d 'Look for logins for what is read from registries in this file only' -r -F
complete -c rpub -n "__fish_rpub_using_subcommand inspect" -l dest-authfile -d 'Look for logins for what is written to registries in this file only' -r -F
complete -c rpub -n "__fish_rpub_using_subcommand inspect" -l registry-token-file -d 'Send the bearer token in this file to this registry (repeatable)' -r
complete -c rpub -n "__fish_rpub_using_subcommand inspect" -s q -l quiet -d 'Show no progress, print only the result'
complete -c rpub -n "__fish_rpub_using_subcommand inspect" -l offline -d 'Open no connection to anybody: what is here counts, as it was last seen'
complete -c rpub -n "__fish_rpub_using_subcommand inspect" -s h -l help -d 'Print help'
complete -c rpub -n "__fish_rpub_using_subcommand history" -l format -d 'Print json, the template given, or with table before it a table: \'table {{.ID}}\'' -r
complete -c rpub -n "__fish_rpub_using_subcommand history" -l store -d 'Keep images, layers and the build cache here [default: ~/.local/share/rpub]' -r -F
complete -c rpub -n "__fish_rpub_using_subcommand history" -l cache-size -d 'Keep the build cache within this size [default: a fifth of the disk, 10 to 100 GiB]' -r
complete -c rpub -n "__fish_rpub_using_subcommand history" -l progress -d 'Show progress as auto, tty, plain, quiet or rawjson' -r -f -a "auto\t'Bars on a terminal, plain lines elsewhere'
tty\t'Bars'
plain\t'Numbered lines'
quiet\t'Nothing but warnings and errors'
rawjson\t'One JSON object a line, for programs'"
complete -c rpub -n "__fish_rpub_using_subcommand history" -l insecure-registry -d 'Allow TLS with any certificate, or else plain HTTP, for this registry (repeatable)' -r
complete -c rpub -n "__fish_rpub_using_subcommand history" -l plain-http -d 'Reach this registry by plain HTTP (repeatable)' -r
complete -c rpub -n "__fish_rpub_using_subcommand history" -l skip-tls-verify -d 'Do not verify the certificate of this registry (repeatable)' -r
complete -c rpub -n "__fish_rpub_using_subcommand history" -l ca-file -d 'Also trust the certificate authorities in this PEM file (repeatable)' -r -F
complete -c rpub -n "__fish_rpub_using_subcommand history" -l cert-dir -d 'Use the authorities (*.crt) and client certificate (*.cert, *.key) in this directory' -r -F
complete -c rpub -n "__fish_rpub_using_subcommand history" -l registries-conf -d 'Read mirrors from this file [default: containers/registries.conf in ~/.config or /etc]' -r -F
complete -c rpub -n "__fish_rpub_using_subcommand history" -l retry-times -d 'Try a failed request so many times more [default: 4]' -r
complete -c rpub -n "__fish_rpub_using_subcommand history" -l retry-delay -d 'Wait so long before the first retry, twice as long before each further one [default: 500ms]' -r
complete -c rpub -n "__fish_rpub_using_subcommand history" -l max-wait -d 'Give up at once when a registry asks for a longer wait than this [default: 1m]' -r
complete -c rpub -n "__fish_rpub_using_subcommand history" -l idle-timeout -d 'Break off when a registry does nothing for so long [default: 90s]' -r
complete -c rpub -n "__fish_rpub_using_subcommand history" -l concurrency -d 'Move at most so many blobs at once each way [default: what the registry takes, up to 16]' -r
complete -c rpub -n "__fish_rpub_using_subcommand history" -l limit-rate -d 'Move at most so many bytes a second, both ways together, as in 5MB' -r
complete -c rpub -n "__fish_rpub_using_subcommand history" -l resolve -d 'Connect to this address for a registry\'s host and port (repeatable)' -r
complete -c rpub -n "__fish_rpub_using_subcommand history" -l http-header -d 'Send this header to registries; @FILE reads lines from a file (repeatable)' -r
complete -c rpub -n "__fish_rpub_using_subcommand history" -l user-agent-prefix -d 'Put this text before rpub\'s own in the user agent' -r
complete -c rpub -n "__fish_rpub_using_subcommand history" -l authfile -d 'Look for logins in this file only; login and logout change it' -r -F
complete -c rpub -n "__fish_rpub_using_subcommand history" -l src-authfile -d 'Look for logins for what is read from registries in this file only' -r -F
complete -c rpub -n "__fish_rpub_using_subcommand history" -l dest-authfile -d 'Look for logins for what is written to registries in this file only' -r -F
complete -c rpub -n "__fish_rpub_using_subcommand history" -l registry-token-file -d 'Send the bearer token in this file to this registry (repeatable)' -r
complete -c rpub -n "__fish_rpub_using_subcommand history" -l no-trunc -d 'Do not shorten ids and instructions'
complete -c rpub -n "__fish_rpub_using_subcommand history" -s q -l quiet -d 'Show no progress, print only the result'
complete -c rpub -n "__fish_rpub_using_subcommand history" -l offline -d 'Open no connection to anybody: what is here counts, as it was last seen'
complete -c rpub -n "__fish_rpub_using_subcommand history" -s h -l help -d 'Print help'
complete -c rpub -n "__fish_rpub_using_subcommand import" -s c -l change -d 'Apply a Dockerfile instruction such as \'CMD sh\' (repeatable)' -r
complete -c rpub -n "__fish_rpub_using_subcommand import" -s m -l message -d 'Keep this comment in the image\'s history' -r
complete -c rpub -n "__fish_rpub_using_subcommand import" -l platform -d 'Platform that the files are for [default: this machine\'s]' -r
complete -c rpub -n "__fish_rpub_using_subcommand import" -l store -d 'Keep images, layers and the build cache here [default: ~/.local/share/rpub]' -r -F
complete -c rpub -n "__fish_rpub_using_subcommand import" -l cache-size -d 'Keep the build cache within this size [default: a fifth of the disk, 10 to 100 GiB]' -r
complete -c rpub -n "__fish_rpub_using_subcommand import" -l progress -d 'Show progress as auto, tty, plain, quiet or rawjson' -r -f -a "auto\t'Bars on a terminal, plain lines elsewhere'
tty\t'Bars'
plain\t'Numbered lines'
quiet\t'Nothing but warnings and errors'
rawjson\t'One JSON object a line, for programs'"
complete -c rpub -n "__fish_rpub_using_subcommand import" -l insecure-registry -d 'Allow TLS with any certificate, or else plain HTTP, for this registry (repeatable)' -r
complete -c rpub -n "__fish_rpub_using_subcommand import" -l plain-http -d 'Reach this registry by plain HTTP (repeatable)' -r
complete -c rpub -n "__fish_rpub_using_subcommand import" -l skip-tls-verify -d 'Do not verify the certificate of this registry (repeatable)' -r
complete -c rpub -n "__fish_rpub_using_subcommand import" -l ca-file -d 'Also trust the certificate authorities in this PEM file (repeatable)' -r -F
complete -c rpub -n "__fish_rpub_using_subcommand import" -l cert-dir -d 'Use the authorities (*.crt) and client certificate (*.cert, *.key) in this directory' -r -F
complete -c rpub -n "__fish_rpub_using_subcommand import" -l registries-conf -d 'Read mirrors from this file [default: containers/registries.conf in ~/.config or /etc]' -r -F
complete -c rpub -n "__fish_rpub_using_subcommand import" -l retry-times -d 'Try a failed request so many times more [default: 4]' -r
complete -c rpub -n "__fish_rpub_using_subcommand import" -l retry-delay -d 'Wait so long before the first retry, twice as long before each further one [default: 500ms]' -r
complete -c rpub -n "__fish_rpub_using_subcommand import" -l max-wait -d 'Give up at once when a registry asks for a longer wait than this [default: 1m]' -r
complete -c rpub -n "__fish_rpub_using_subcommand import" -l idle-timeout -d 'Break off when a registry does nothing for so long [default: 90s]' -r
complete -c rpub -n "__fish_rpub_using_subcommand import" -l concurrency -d 'Move at most so many blobs at once each way [default: what the registry takes, up to 16]' -r
complete -c rpub -n "__fish_rpub_using_subcommand import" -l limit-rate -d 'Move at most so many bytes a second, both ways together, as in 5MB' -r
complete -c rpub -n "__fish_rpub_using_subcommand import" -l resolve -d 'Connect to this address for a registry\'s host and port (repeatable)' -r
complete -c rpub -n "__fish_rpub_using_subcommand import" -l http-header -d 'Send this header to registries; @FILE reads lines from a file (repeatable)' -r
complete -c rpub -n "__fish_rpub_using_subcommand import" -l user-agent-prefix -d 'Put this text before rpub\'s own in the user agent' -r
complete -c rpub -n "__fish_rpub_using_subcommand import" -l authfile -d 'Look for logins in this file only; login and logout change it' -r -F
complete -c rpub -n "__fish_rpub_using_subcommand import" -l src-authfile -d 'Look for logins for what is read from registries in this file only' -r -F
complete -c rpub -n "__fish_rpub_using_subcommand import" -l dest-authfile -d 'Look for logins for what is written to registries in this file only' -r -F
complete -c rpub -n "__fish_rpub_using_subcommand import" -l registry-token-file -d 'Send the bearer token in this file to this registry (repeatable)' -r
complete -c rpub -n "__fish_rpub_using_subcommand import" -s q -l quiet -d 'Show no progress, print only the result'
complete -c rpub -n "__fish_rpub_using_subcommand import" -l offline -d 'Open no connection to anybody: what is here counts, as it was last seen'
complete -c rpub -n "__fish_rpub_using_subcommand import" -s h -l help -d 'Print help'
complete -c rpub -n "__fish_rpub_using_subcommand bundle; and not __fish_seen_subcommand_from create add load verify ls diff help" -l store -d 'Keep images, layers and the build cache here [default: ~/.local/share/rpub]' -r -F
complete -c rpub -n "__fish_rpub_using_subcommand bundle; and not __fish_seen_subcommand_from create add load verify ls diff help" -l cache-size -d 'Keep the build cache within this size [default: a fifth of the disk, 10 to 100 GiB]' -r
complete -c rpub -n "__fish_rpub_using_subcommand bundle; and not __fish_seen_subcommand_from create add load verify ls diff help" -l progress -d 'Show progress as auto, tty, plain, quiet or rawjson' -r -f -a "auto\t'Bars on a terminal, plain lines elsewhere'
tty\t'Bars'
plain\t'Numbered lines'
quiet\t'Nothing but warnings and errors'
rawjson\t'One JSON object a line, for programs'"
complete -c rpub -n "__fish_rpub_using_subcommand bundle; and not __fish_seen_subcommand_from create add load verify ls diff help" -l insecure-registry -d 'Allow TLS with any certificate, or else plain HTTP, for this registry (repeatable)' -r
complete -c rpub -n "__fish_rpub_using_subcommand bundle; and not __fish_seen_subcommand_from create add load verify ls diff help" -l plain-http -d 'Reach this registry by plain HTTP (repeatable)' -r
complete -c rpub -n "__fish_rpub_using_subcommand bundle; and not __fish_seen_subcommand_from create add load verify ls diff help" -l skip-tls-verify -d 'Do not verify the certificate of this registry (repeatable)' -r
complete -c rpub -n "__fish_rpub_using_subcommand bundle; and not __fish_seen_subcommand_from create add load verify ls diff help" -l ca-file -d 'Also trust the certificate authorities in this PEM file (repeatable)' -r -F
complete -c rpub -n "__fish_rpub_using_subcommand bundle; and not __fish_seen_subcommand_from create add load verify ls diff help" -l cert-dir -d 'Use the authorities (*.crt) and client certificate (*.cert, *.key) in this directory' -r -F
complete -c rpub -n "__fish_rpub_using_subcommand bundle; and not __fish_seen_subcommand_from create add load verify ls diff help" -l registries-conf -d 'Read mirrors from this file [default: containers/registries.conf in ~/.config or /etc]' -r -F
complete -c rpub -n "__fish_rpub_using_subcommand bundle; and not __fish_seen_subcommand_from create add load verify ls diff help" -l retry-times -d 'Try a failed request so many times more [default: 4]' -r
complete -c rpub -n "__fish_rpub_using_subcommand bundle; and not __fish_seen_subcommand_from create add load verify ls diff help" -l retry-delay -d 'Wait so long before the first retry, twice as long before each further one [default: 500ms]' -r
complete -c rpub -n "__fish_rpub_using_subcommand bundle; and not __fish_seen_subcommand_from create add load verify ls diff help" -l max-wait -d 'Give up at once when a registry asks for a longer wait than this [default: 1m]' -r
complete -c rpub -n "__fish_rpub_using_subcommand bundle; and not __fish_seen_subcommand_from create add load verify ls diff help" -l idle-timeout -d 'Break off when a registry does nothing for so long [default: 90s]' -r
complete -c rpub -n "__fish_rpub_using_subcommand bundle; and not __fish_seen_subcommand_from create add load verify ls diff help" -l concurrency -d 'Move at most so many blobs at once each way [default: what the registry takes, up to 16]' -r
complete -c rpub -n "__fish_rpub_using_subcommand bundle; and not __fish_seen_subcommand_from create add load verify ls diff help" -l limit-rate -d 'Move at most so many bytes a second, both ways together, as in 5MB' -r
complete -c rpub -n "__fish_rpub_using_subcommand bundle; and not __fish_seen_subcommand_from create add load verify ls diff help" -l resolve -d 'Connect to this address for a registry\'s host and port (repeatable)' -r
complete -c rpub -n "__fish_rpub_using_subcommand bundle; and not __fish_seen_subcommand_from create add load verify ls diff help" -l http-header -d 'Send this header to registries; @FILE reads lines from a file (repeatable)' -r
complete -c rpub -n "__fish_rpub_using_subcommand bundle; and not __fish_seen_subcommand_from create add load verify ls diff help" -l user-agent-prefix -d 'Put this text before rpub\'s own in the user agent' -r
complete -c rpub -n "__fish_rpub_using_subcommand bundle; and not __fish_seen_subcommand_from create add load verify ls diff help" -l authfile -d 'Look for logins in this file only; login and logout change it' -r -F
complete -c rpub -n "__fish_rpub_using_subcommand bundle; and not __fish_seen_subcommand_from create add load verify ls diff help" -l src-authfile -d 'Look for logins for what is read from registries in this file only' -r -F
complete -c rpub -n "__fish_rpub_using_subcommand bundle; and not __fish_seen_subcommand_from create add load verify ls diff help" -l dest-authfile -d 'Look for logins for what is written to registries in this file only' -r -F
complete -c rpub -n "__fish_rpub_using_subcommand bundle; and not __fish_seen_subcommand_from create add load verify ls diff help" -l registry-token-file -d 'Send the bearer token in this file to this registry (repeatable)' -r
complete -c rpub -n "__fish_rpub_using_subcommand bundle; and not __fish_seen_subcommand_from create add load verify ls diff help" -s q -l quiet -d 'Show no progress, print only the result'
complete -c rpub -n "__fish_rpub_using_subcommand bundle; and not __fish_seen_subcommand_from create add load verify ls diff help" -l offline -d 'Open no connection to anybody: what is here counts, as it was last seen'
complete -c rpub -n "__fish_rpub_using_subcommand bundle; and not __fish_seen_subcommand_from create add load verify ls diff help" -s h -l help -d 'Print help'
complete -c rpub -n "__fish_rpub_using_subcommand bundle; and not __fish_seen_subcommand_from create add load verify ls diff help" -f -a "create" -d 'Put images into a new bundle; one that was begun is gone on with'
complete -c rpub -n "__fish_rpub_using_subcommand bundle; and not __fish_seen_subcommand_from create add load verify ls diff help" -f -a "add" -d 'Add images to a bundle'
complete -c rpub -n "__fish_rpub_using_subcommand bundle; and not __fish_seen_subcommand_from create add load verify ls diff help" -f -a "load" -d 'Load the images of a bundle into the store, or into a registry; the store needs no network'
complete -c rpub -n "__fish_rpub_using_subcommand bundle; and not __fish_seen_subcommand_from create add load verify ls diff help" -f -a "verify" -d 'Read a bundle whole: hash everything again, and see whether anything is missing'
complete -c rpub -n "__fish_rpub_using_subcommand bundle; and not __fish_seen_subcommand_from create add load verify ls diff help" -f -a "ls" -d 'List the images of a bundle, or write down what a place has for `--delta-from`'
complete -c rpub -n "__fish_rpub_using_subcommand bundle; and not __fish_seen_subcommand_from create add load verify ls diff help" -f -a "diff" -d 'Show in what two bundles differ'
complete -c rpub -n "__fish_rpub_using_subcommand bundle; and not __fish_seen_subcommand_from create add load verify ls diff help" -f -a "help" -d 'Print this message or the help of the given subcommand(s)'
complete -c rpub -n "__fish_rpub_using_subcommand bundle; and __fish_seen_subcommand_from create" -s o -l output -d 'The bundle' -r -F
complete -c rpub -n "__fish_rpub_using_subcommand bundle; and __fish_seen_subcommand_from create" -s f -l file -d 'Also the images of this file, one a line, # begins a comment (- is standard input; repeatable)' -r -F
complete -c rpub -n "__fish_rpub_using_subcommand bundle; and __fish_seen_subcommand_from create" -l lock -d 'Also the images of this lock file, by digest (repeatable)' -r -F
complete -c rpub -n "__fish_rpub_using_subcommand bundle; and __fish_seen_subcommand_from create" -l delta-from -d 'Leave out the blobs that the other side has: a file of `bundle ls --inventory`, or a bundle, archive or layout that is there' -r -F
complete -c rpub -n "__fish_rpub_using_subcommand bundle; and __fish_seen_subcommand_from create" -l platform -d 'Copy only these platforms: one gives its image, several a smaller index [default: all]' -r
complete -c rpub -n "__fish_rpub_using_subcommand bundle; and __fish_seen_subcommand_from create" -l artifact-type -d 'Copy only referrers of this artifact type (repeatable)' -r
complete -c rpub -n "__fish_rpub_using_subcommand bundle; and __fish_seen_subcommand_from create" -l format -d 'Print json, the template given, or with table before it a table: \'table {{.ID}}\'' -r
complete -c rpub -n "__fish_rpub_using_subcommand bundle; and __fish_seen_subcommand_from create" -l store -d 'Keep images, layers and the build cache here [default: ~/.local/share/rpub]' -r -F
complete -c rpub -n "__fish_rpub_using_subcommand bundle; and __fish_seen_subcommand_from create" -l cache-size -d 'Keep the build cache within this size [default: a fifth of the disk, 10 to 100 GiB]' -r
complete -c rpub -n "__fish_rpub_using_subcommand bundle; and __fish_seen_subcommand_from create" -l progress -d 'Show progress as auto, tty, plain, quiet or rawjson' -r -f -a "auto\t'Bars on a terminal, plain lines elsewhere'
tty\t'Bars'
plain\t'Numbered lines'
quiet\t'Nothing but warnings and errors'
rawjson\t'One JSON object a line, for programs'"
complete -c rpub -n "__fish_rpub_using_subcommand bundle; and __fish_seen_subcommand_from create" -l insecure-registry -d 'Allow TLS with any certificate, or else plain HTTP, for this registry (repeatable)' -r
complete -c rpub -n "__fish_rpub_using_subcommand bundle; and __fish_seen_subcommand_from create" -l plain-http -d 'Reach this registry by plain HTTP (repeatable)' -r
complete -c rpub -n "__fish_rpub_using_subcommand bundle; and __fish_seen_subcommand_from create" -l skip-tls-verify -d 'Do not verify the certificate of this registry (repeatable)' -r
complete -c rpub -n "__fish_rpub_using_subcommand bundle; and __fish_seen_subcommand_from create" -l ca-file -d 'Also trust the certificate authorities in this PEM file (repeatable)' -r -F
complete -c rpub -n "__fish_rpub_using_subcommand bundle; and __fish_seen_subcommand_from create" -l cert-dir -d 'Use the authorities (*.crt) and client certificate (*.cert, *.key) in this directory' -r -F
complete -c rpub -n "__fish_rpub_using_subcommand bundle; and __fish_seen_subcommand_from create" -l registries-conf -d 'Read mirrors from this file [default: containers/registries.conf in ~/.config or /etc]' -r -F
complete -c rpub -n "__fish_rpub_using_subcommand bundle; and __fish_seen_subcommand_from create" -l retry-times -d 'Try a failed request so many times more [default: 4]' -r
complete -c rpub -n "__fish_rpub_using_subcommand bundle; and __fish_seen_subcommand_from create" -l retry-delay -d 'Wait so long before the first retry, twice as long before each further one [default: 500ms]' -r
complete -c rpub -n "__fish_rpub_using_subcommand bundle; and __fish_seen_subcommand_from create" -l max-wait -d 'Give up at once when a registry asks for a longer wait than this [default: 1m]' -r
complete -c rpub -n "__fish_rpub_using_subcommand bundle; and __fish_seen_subcommand_from create" -l idle-timeout -d 'Break off when a registry does nothing for so long [default: 90s]' -r
complete -c rpub -n "__fish_rpub_using_subcommand bundle; and __fish_seen_subcommand_from create" -l concurrency -d 'Move at most so many blobs at once each way [default: what the registry takes, up to 16]' -r
complete -c rpub -n "__fish_rpub_using_subcommand bundle; and __fish_seen_subcommand_from create" -l limit-rate -d 'Move at most so many bytes a second, both ways together, as in 5MB' -r
complete -c rpub -n "__fish_rpub_using_subcommand bundle; and __fish_seen_subcommand_from create" -l resolve -d 'Connect to this address for a registry\'s host and port (repeatable)' -r
complete -c rpub -n "__fish_rpub_using_subcommand bundle; and __fish_seen_subcommand_from create" -l http-header -d 'Send this header to registries; @FILE reads lines from a file (repeatable)' -r
complete -c rpub -n "__fish_rpub_using_subcommand bundle; and __fish_seen_subcommand_from create" -l user-agent-prefix -d 'Put this text before rpub\'s own in the user agent' -r
complete -c rpub -n "__fish_rpub_using_subcommand bundle; and __fish_seen_subcommand_from create" -l authfile -d 'Look for logins in this file only; login and logout change it' -r -F
complete -c rpub -n "__fish_rpub_using_subcommand bundle; and __fish_seen_subcommand_from create" -l src-authfile -d 'Look for logins for what is read from registries in this file only' -r -F
complete -c rpub -n "__fish_rpub_using_subcommand bundle; and __fish_seen_subcommand_from create" -l dest-authfile -d 'Look for logins for what is written to registries in this file only' -r -F
complete -c rpub -n "__fish_rpub_using_subcommand bundle; and __fish_seen_subcommand_from create" -l registry-token-file -d 'Send the bearer token in this file to this registry (repeatable)' -r
complete -c rpub -n "__fish_rpub_using_subcommand bundle; and __fish_seen_subcommand_from create" -l sparse-index -d 'Keep the index as it is though images of other platforms will be missing'
complete -c rpub -n "__fish_rpub_using_subcommand bundle; and __fish_seen_subcommand_from create" -l no-referrers -d 'Leave signatures, attestations and other referrers behind'
complete -c rpub -n "__fish_rpub_using_subcommand bundle; and __fish_seen_subcommand_from create" -l no-digest-tags -d 'Leave the tags behind under which cosign keeps signatures (sha256-....sig)'
complete -c rpub -n "__fish_rpub_using_subcommand bundle; and __fish_seen_subcommand_from create" -l include-external -d 'Also copy layers that say where else they are, such as those of Windows'
complete -c rpub -n "__fish_rpub_using_subcommand bundle; and __fish_seen_subcommand_from create" -s q -l quiet -d 'Show no progress, print only the result'
complete -c rpub -n "__fish_rpub_using_subcommand bundle; and __fish_seen_subcommand_from create" -l offline -d 'Open no connection to anybody: what is here counts, as it was last seen'
complete -c rpub -n "__fish_rpub_using_subcommand bundle; and __fish_seen_subcommand_from create" -s h -l help -d 'Print help'
complete -c rpub -n "__fish_rpub_using_subcommand bundle; and __fish_seen_subcommand_from add" -s f -l file -d 'Also the images of this file, one a line, # begins a comment (- is standard input; repeatable)' -r -F
complete -c rpub -n "__fish_rpub_using_subcommand bundle; and __fish_seen_subcommand_from add" -l lock -d 'Also the images of this lock file, by digest (repeatable)' -r -F
complete -c rpub -n "__fish_rpub_using_subcommand bundle; and __fish_seen_subcommand_from add" -l delta-from -d 'Leave out the blobs that the other side has: a file of `bundle ls --inventory`, or a bundle, archive or layout that is there' -r -F
complete -c rpub -n "__fish_rpub_using_subcommand bundle; and __fish_seen_subcommand_from add" -l platform -d 'Copy only these platforms: one gives its image, several a smaller index [default: all]' -r
complete -c rpub -n "__fish_rpub_using_subcommand bundle; and __fish_seen_subcommand_from add" -l artifact-type -d 'Copy only referrers of this artifact type (repeatable)' -r
complete -c rpub -n "__fish_rpub_using_subcommand bundle; and __fish_seen_subcommand_from add" -l format -d 'Print json, the template given, or with table before it a table: \'table {{.ID}}\'' -r
complete -c rpub -n "__fish_rpub_using_subcommand bundle; and __fish_seen_subcommand_from add" -l store -d 'Keep images, layers and the build cache here [default: ~/.local/share/rpub]' -r -F
complete -c rpub -n "__fish_rpub_using_subcommand bundle; and __fish_seen_subcommand_from add" -l cache-size -d 'Keep the build cache within this size [default: a fifth of the disk, 10 to 100 GiB]' -r
complete -c rpub -n "__fish_rpub_using_subcommand bundle; and __fish_seen_subcommand_from add" -l progress -d 'Show progress as auto, tty, plain, quiet or rawjson' -r -f -a "auto\t'Bars on a terminal, plain lines elsewhere'
tty\t'Bars'
plain\t'Numbered lines'
quiet\t'Nothing but warnings and errors'
rawjson\t'One JSON object a line, for programs'"
complete -c rpub -n "__fish_rpub_using_subcommand bundle; and __fish_seen_subcommand_from add" -l insecure-registry -d 'Allow TLS with any certificate, or else plain HTTP, for this registry (repeatable)' -r
complete -c rpub -n "__fish_rpub_using_subcommand bundle; and __fish_seen_subcommand_from add" -l plain-http -d 'Reach this registry by plain HTTP (repeatable)' -r
complete -c rpub -n "__fish_rpub_using_subcommand bundle; and __fish_seen_subcommand_from add" -l skip-tls-verify -d 'Do not verify the certificate of this registry (repeatable)' -r
complete -c rpub -n "__fish_rpub_using_subcommand bundle; and __fish_seen_subcommand_from add" -l ca-file -d 'Also trust the certificate authorities in this PEM file (repeatable)' -r -F
complete -c rpub -n "__fish_rpub_using_subcommand bundle; and __fish_seen_subcommand_from add" -l cert-dir -d 'Use the authorities (*.crt) and client certificate (*.cert, *.key) in this directory' -r -F
complete -c rpub -n "__fish_rpub_using_subcommand bundle; and __fish_seen_subcommand_from add" -l registries-conf -d 'Read mirrors from this file [default: containers/registries.conf in ~/.config or /etc]' -r -F
complete -c rpub -n "__fish_rpub_using_subcommand bundle; and __fish_seen_subcommand_from add" -l retry-times -d 'Try a failed request so many times more [default: 4]' -r
complete -c rpub -n "__fish_rpub_using_subcommand bundle; and __fish_seen_subcommand_from add" -l retry-delay -d 'Wait so long before the first retry, twice as long before each further one [default: 500ms]' -r
complete -c rpub -n "__fish_rpub_using_subcommand bundle; and __fish_seen_subcommand_from add" -l max-wait -d 'Give up at once when a registry asks for a longer wait than this [default: 1m]' -r
complete -c rpub -n "__fish_rpub_using_subcommand bundle; and __fish_seen_subcommand_from add" -l idle-timeout -d 'Break off when a registry does nothing for so long [default: 90s]' -r
complete -c rpub -n "__fish_rpub_using_subcommand bundle; and __fish_seen_subcommand_from add" -l concurrency -d 'Move at most so many blobs at once each way [default: what the registry takes, up to 16]' -r
complete -c rpub -n "__fish_rpub_using_subcommand bundle; and __fish_seen_subcommand_from add" -l limit-rate -d 'Move at most so many bytes a second, both ways together, as in 5MB' -r
complete -c rpub -n "__fish_rpub_using_subcommand bundle; and __fish_seen_subcommand_from add" -l resolve -d 'Connect to this address for a registry\'s host and port (repeatable)' -r
complete -c rpub -n "__fish_rpub_using_subcommand bundle; and __fish_seen_subcommand_from add" -l http-header -d 'Send this header to registries; @FILE reads lines from a file (repeatable)' -r
complete -c rpub -n "__fish_rpub_using_subcommand bundle; and __fish_seen_subcommand_from add" -l user-agent-prefix -d 'Put this text before rpub\'s own in the user agent' -r
complete -c rpub -n "__fish_rpub_using_subcommand bundle; and __fish_seen_subcommand_from add" -l authfile -d 'Look for logins in this file only; login and logout change it' -r -F
complete -c rpub -n "__fish_rpub_using_subcommand bundle; and __fish_seen_subcommand_from add" -l src-authfile -d 'Look for logins for what is read from registries in this file only' -r -F
complete -c rpub -n "__fish_rpub_using_subcommand bundle; and __fish_seen_subcommand_from add" -l dest-authfile -d 'Look for logins for what is written to registries in this file only' -r -F
complete -c rpub -n "__fish_rpub_using_subcommand bundle; and __fish_seen_subcommand_from add" -l registry-token-file -d 'Send the bearer token in this file to this registry (repeatable)' -r
complete -c rpub -n "__fish_rpub_using_subcommand bundle; and __fish_seen_subcommand_from add" -l sparse-index -d 'Keep the index as it is though images of other platforms will be missing'
complete -c rpub -n "__fish_rpub_using_subcommand bundle; and __fish_seen_subcommand_from add" -l no-referrers -d 'Leave signatures, attestations and other referrers behind'
complete -c rpub -n "__fish_rpub_using_subcommand bundle; and __fish_seen_subcommand_from add" -l no-digest-tags -d 'Leave the tags behind under which cosign keeps signatures (sha256-....sig)'
complete -c rpub -n "__fish_rpub_using_subcommand bundle; and __fish_seen_subcommand_from add" -l include-external -d 'Also copy layers that say where else they are, such as those of Windows'
complete -c rpub -n "__fish_rpub_using_subcommand bundle; and __fish_seen_subcommand_from add" -s q -l quiet -d 'Show no progress, print only the result'
complete -c rpub -n "__fish_rpub_using_subcommand bundle; and __fish_seen_subcommand_from add" -l offline -d 'Open no connection to anybody: what is here counts, as it was last seen'
complete -c rpub -n "__fish_rpub_using_subcommand bundle; and __fish_seen_subcommand_from add" -s h -l help -d 'Print help'
complete -c rpub -n "__fish_rpub_using_subcommand bundle; and __fish_seen_subcommand_from load" -l to -d 'Push them to this registry, under the names of their repositories [default: the store]' -r
complete -c rpub -n "__fish_rpub_using_subcommand bundle; and __fish_seen_subcommand_from load" -l map -d 'Put NEW in place of OLD at the beginning of names; the longest OLD counts (repeatable)' -r
complete -c rpub -n "__fish_rpub_using_subcommand bundle; and __fish_seen_subcommand_from load" -l format -d 'Print json, the template given, or with table before it a table: \'table {{.ID}}\'' -r
complete -c rpub -n "__fish_rpub_using_subcommand bundle; and __fish_seen_subcommand_from load" -l store -d 'Keep images, layers and the build cache here [default: ~/.local/share/rpub]' -r -F
complete -c rpub -n "__fish_rpub_using_subcommand bundle; and __fish_seen_subcommand_from load" -l cache-size -d 'Keep the build cache within this size [default: a fifth of the disk, 10 to 100 GiB]' -r
complete -c rpub -n "__fish_rpub_using_subcommand bundle; and __fish_seen_subcommand_from load" -l progress -d 'Show progress as auto, tty, plain, quiet or rawjson' -r -f -a "auto\t'Bars on a terminal, plain lines elsewhere'
tty\t'Bars'
plain\t'Numbered lines'
quiet\t'Nothing but warnings and errors'
rawjson\t'One JSON object a line, for programs'"
complete -c rpub -n "__fish_rpub_using_subcommand bundle; and __fish_seen_subcommand_from load" -l insecure-registry -d 'Allow TLS with any certificate, or else plain HTTP, for this registry (repeatable)' -r
complete -c rpub -n "__fish_rpub_using_subcommand bundle; and __fish_seen_subcommand_from load" -l plain-http -d 'Reach this registry by plain HTTP (repeatable)' -r
complete -c rpub -n "__fish_rpub_using_subcommand bundle; and __fish_seen_subcommand_from load" -l skip-tls-verify -d 'Do not verify the certificate of this registry (repeatable)' -r
complete -c rpub -n "__fish_rpub_using_subcommand bundle; and __fish_seen_subcommand_from load" -l ca-file -d 'Also trust the certificate authorities in this PEM file (repeatable)' -r -F
complete -c rpub -n "__fish_rpub_using_subcommand bundle; and __fish_seen_subcommand_from load" -l cert-dir -d 'Use the authorities (*.crt) and client certificate (*.cert, *.key) in this directory' -r -F
complete -c rpub -n "__fish_rpub_using_subcommand bundle; and __fish_seen_subcommand_from load" -l registries-conf -d 'Read mirrors from this file [default: containers/registries.conf in ~/.config or /etc]' -r -F
complete -c rpub -n "__fish_rpub_using_subcommand bundle; and __fish_seen_subcommand_from load" -l retry-times -d 'Try a failed request so many times more [default: 4]' -r
complete -c rpub -n "__fish_rpub_using_subcommand bundle; and __fish_seen_subcommand_from load" -l retry-delay -d 'Wait so long before the first retry, twice as long before each further one [default: 500ms]' -r
complete -c rpub -n "__fish_rpub_using_subcommand bundle; and __fish_seen_subcommand_from load" -l max-wait -d 'Give up at once when a registry asks for a longer wait than this [default: 1m]' -r
complete -c rpub -n "__fish_rpub_using_subcommand bundle; and __fish_seen_subcommand_from load" -l idle-timeout -d 'Break off when a registry does nothing for so long [default: 90s]' -r
complete -c rpub -n "__fish_rpub_using_subcommand bundle; and __fish_seen_subcommand_from load" -l concurrency -d 'Move at most so many blobs at once each way [default: what the registry takes, up to 16]' -r
complete -c rpub -n "__fish_rpub_using_subcommand bundle; and __fish_seen_subcommand_from load" -l limit-rate -d 'Move at most so many bytes a second, both ways together, as in 5MB' -r
complete -c rpub -n "__fish_rpub_using_subcommand bundle; and __fish_seen_subcommand_from load" -l resolve -d 'Connect to this address for a registry\'s host and port (repeatable)' -r
complete -c rpub -n "__fish_rpub_using_subcommand bundle; and __fish_seen_subcommand_from load" -l http-header -d 'Send this header to registries; @FILE reads lines from a file (repeatable)' -r
complete -c rpub -n "__fish_rpub_using_subcommand bundle; and __fish_seen_subcommand_from load" -l user-agent-prefix -d 'Put this text before rpub\'s own in the user agent' -r
complete -c rpub -n "__fish_rpub_using_subcommand bundle; and __fish_seen_subcommand_from load" -l authfile -d 'Look for logins in this file only; login and logout change it' -r -F
complete -c rpub -n "__fish_rpub_using_subcommand bundle; and __fish_seen_subcommand_from load" -l src-authfile -d 'Look for logins for what is read from registries in this file only' -r -F
complete -c rpub -n "__fish_rpub_using_subcommand bundle; and __fish_seen_subcommand_from load" -l dest-authfile -d 'Look for logins for what is written to registries in this file only' -r -F
complete -c rpub -n "__fish_rpub_using_subcommand bundle; and __fish_seen_subcommand_from load" -l registry-token-file -d 'Send the bearer token in this file to this registry (repeatable)' -r
complete -c rpub -n "__fish_rpub_using_subcommand bundle; and __fish_seen_subcommand_from load" -s q -l quiet -d 'Show no progress, print only the result'
complete -c rpub -n "__fish_rpub_using_subcommand bundle; and __fish_seen_subcommand_from load" -l offline -d 'Open no connection to anybody: what is here counts, as it was last seen'
complete -c rpub -n "__fish_rpub_using_subcommand bundle; and __fish_seen_subcommand_from load" -s h -l help -d 'Print help'
complete -c rpub -n "__fish_rpub_using_subcommand bundle; and __fish_seen_subcommand_from verify" -l format -d 'Print json, the template given, or with table before it a table: \'table {{.ID}}\'' -r
complete -c rpub -n "__fish_rpub_using_subcommand bundle; and __fish_seen_subcommand_from verify" -l store -d 'Keep images, layers and the build cache here [default: ~/.local/share/rpub]' -r -F
complete -c rpub -n "__fish_rpub_using_subcommand bundle; and __fish_seen_subcommand_from verify" -l cache-size -d 'Keep the build cache within this size [default: a fifth of the disk, 10 to 100 GiB]' -r
complete -c rpub -n "__fish_rpub_using_subcommand bundle; and __fish_seen_subcommand_from verify" -l progress -d 'Show progress as auto, tty, plain, quiet or rawjson' -r -f -a "auto\t'Bars on a terminal, plain lines elsewhere'
tty\t'Bars'
plain\t'Numbered lines'
quiet\t'Nothing but warnings and errors'
rawjson\t'One JSON object a line, for programs'"
complete -c rpub -n "__fish_rpub_using_subcommand bundle; and __fish_seen_subcommand_from verify" -l insecure-registry -d 'Allow TLS with any certificate, or else plain HTTP, for this registry (repeatable)' -r
complete -c rpub -n "__fish_rpub_using_subcommand bundle; and __fish_seen_subcommand_from verify" -l plain-http -d 'Reach this registry by plain HTTP (repeatable)' -r
complete -c rpub -n "__fish_rpub_using_subcommand bundle; and __fish_seen_subcommand_from verify" -l skip-tls-verify -d 'Do not verify the certificate of this registry (repeatable)' -r
complete -c rpub -n "__fish_rpub_using_subcommand bundle; and __fish_seen_subcommand_from verify" -l ca-file -d 'Also trust the certificate authorities in this PEM file (repeatable)' -r -F
complete -c rpub -n "__fish_rpub_using_subcommand bundle; and __fish_seen_subcommand_from verify" -l cert-dir -d 'Use the authorities (*.crt) and client certificate (*.cert, *.key) in this directory' -r -F
complete -c rpub -n "__fish_rpub_using_subcommand bundle; and __fish_seen_subcommand_from verify" -l registries-conf -d 'Read mirrors from this file [default: containers/registries.conf in ~/.config or /etc]' -r -F
complete -c rpub -n "__fish_rpub_using_subcommand bundle; and __fish_seen_subcommand_from verify" -l retry-times -d 'Try a failed request so many times more [default: 4]' -r
complete -c rpub -n "__fish_rpub_using_subcommand bundle; and __fish_seen_subcommand_from verify" -l retry-delay -d 'Wait so long before the first retry, twice as long before each further one [default: 500ms]' -r
complete -c rpub -n "__fish_rpub_using_subcommand bundle; and __fish_seen_subcommand_from verify" -l max-wait -d 'Give up at once when a registry asks for a longer wait than this [default: 1m]' -r
complete -c rpub -n "__fish_rpub_using_subcommand bundle; and __fish_seen_subcommand_from verify" -l idle-timeout -d 'Break off when a registry does nothing for so long [default: 90s]' -r
complete -c rpub -n "__fish_rpub_using_subcommand bundle; and __fish_seen_subcommand_from verify" -l concurrency -d 'Move at most so many blobs at once each way [default: what the registry takes, up to 16]' -r
complete -c rpub -n "__fish_rpub_using_subcommand bundle; and __fish_seen_subcommand_from verify" -l limit-rate -d 'Move at most so many bytes a second, both ways together, as in 5MB' -r
complete -c rpub -n "__fish_rpub_using_subcommand bundle; and __fish_seen_subcommand_from verify" -l resolve -d 'Connect to this address for a registry\'s host and port (repeatable)' -r
complete -c rpub -n "__fish_rpub_using_subcommand bundle; and __fish_seen_subcommand_from verify" -l http-header -d 'Send this header to registries; @FILE reads lines from a file (repeatable)' -r
complete -c rpub -n "__fish_rpub_using_subcommand bundle; and __fish_seen_subcommand_from verify" -l user-agent-prefix -d 'Put this text before rpub\'s own in the user agent' -r
complete -c rpub -n "__fish_rpub_using_subcommand bundle; and __fish_seen_subcommand_from verify" -l authfile -d 'Look for logins in this file only; login and logout change it' -r -F
complete -c rpub -n "__fish_rpub_using_subcommand bundle; and __fish_seen_subcommand_from verify" -l src-authfile -d 'Look for logins for what is read from registries in this file only' -r -F
complete -c rpub -n "__fish_rpub_using_subcommand bundle; and __fish_seen_subcommand_from verify" -l dest-authfile -d 'Look for logins for what is written to registries in this file only' -r -F
complete -c rpub -n "__fish_rpub_using_subcommand bundle; and __fish_seen_subcommand_from verify" -l registry-token-file -d 'Send the bearer token in this file to this registry (repeatable)' -r
complete -c rpub -n "__fish_rpub_using_subcommand bundle; and __fish_seen_subcommand_from verify" -s q -l quiet -d 'Show no progress, print only the result'
complete -c rpub -n "__fish_rpub_using_subcommand bundle; and __fish_seen_subcommand_from verify" -l offline -d 'Open no connection to anybody: what is here counts, as it was last seen'
complete -c rpub -n "__fish_rpub_using_subcommand bundle; and __fish_seen_subcommand_from verify" -s h -l help -d 'Print help'
complete -c rpub -n "__fish_rpub_using_subcommand bundle; and __fish_seen_subcommand_from ls" -l format -d 'Print json, the template given, or with table before it a table: \'table {{.ID}}\'' -r
complete -c rpub -n "__fish_rpub_using_subcommand bundle; and __fish_seen_subcommand_from ls" -l store -d 'Keep images, layers and the build cache here [default: ~/.local/share/rpub]' -r -F
complete -c rpub -n "__fish_rpub_using_subcommand bundle; and __fish_seen_subcommand_from ls" -l cache-size -d 'Keep the build cache within this size [default: a fifth of the disk, 10 to 100 GiB]' -r
complete -c rpub -n "__fish_rpub_using_subcommand bundle; and __fish_seen_subcommand_from ls" -l progress -d 'Show progress as auto, tty, plain, quiet or rawjson' -r -f -a "auto\t'Bars on a terminal, plain lines elsewhere'
tty\t'Bars'
plain\t'Numbered lines'
quiet\t'Nothing but warnings and errors'
rawjson\t'One JSON object a line, for programs'"
complete -c rpub -n "__fish_rpub_using_subcommand bundle; and __fish_seen_subcommand_from ls" -l insecure-registry -d 'Allow TLS with any certificate, or else plain HTTP, for this registry (repeatable)' -r
complete -c rpub -n "__fish_rpub_using_subcommand bundle; and __fish_seen_subcommand_from ls" -l plain-http -d 'Reach this registry by plain HTTP (repeatable)' -r
complete -c rpub -n "__fish_rpub_using_subcommand bundle; and __fish_seen_subcommand_from ls" -l skip-tls-verify -d 'Do not verify the certificate of this registry (repeatable)' -r
complete -c rpub -n "__fish_rpub_using_subcommand bundle; and __fish_seen_subcommand_from ls" -l ca-file -d 'Also trust the certificate authorities in this PEM file (repeatable)' -r -F
complete -c rpub -n "__fish_rpub_using_subcommand bundle; and __fish_seen_subcommand_from ls" -l cert-dir -d 'Use the authorities (*.crt) and client certificate (*.cert, *.key) in this directory' -r -F
complete -c rpub -n "__fish_rpub_using_subcommand bundle; and __fish_seen_subcommand_from ls" -l registries-conf -d 'Read mirrors from this file [default: containers/registries.conf in ~/.config or /etc]' -r -F
complete -c rpub -n "__fish_rpub_using_subcommand bundle; and __fish_seen_subcommand_from ls" -l retry-times -d 'Try a failed request so many times more [default: 4]' -r
complete -c rpub -n "__fish_rpub_using_subcommand bundle; and __fish_seen_subcommand_from ls" -l retry-delay -d 'Wait so long before the first retry, twice as long before each further one [default: 500ms]' -r
complete -c rpub -n "__fish_rpub_using_subcommand bundle; and __fish_seen_subcommand_from ls" -l max-wait -d 'Give up at once when a registry asks for a longer wait than this [default: 1m]' -r
complete -c rpub -n "__fish_rpub_using_subcommand bundle; and __fish_seen_subcommand_from ls" -l idle-timeout -d 'Break off when a registry does nothing for so long [default: 90s]' -r
complete -c rpub -n "__fish_rpub_using_subcommand bundle; and __fish_seen_subcommand_from ls" -l concurrency -d 'Move at most so many blobs at once each way [default: what the registry takes, up to 16]' -r
complete -c rpub -n "__fish_rpub_using_subcommand bundle; and __fish_seen_subcommand_from ls" -l limit-rate -d 'Move at most so many bytes a second, both ways together, as in 5MB' -r
complete -c rpub -n "__fish_rpub_using_subcommand bundle; and __fish_seen_subcommand_from ls" -l resolve -d 'Connect to this address for a registry\'s host and port (repeatable)' -r
complete -c rpub -n "__fish_rpub_using_subcommand bundle; and __fish_seen_subcommand_from ls" -l http-header -d 'Send this header to registries; @FILE reads lines from a file (repeatable)' -r
complete -c rpub -n "__fish_rpub_using_subcommand bundle; and __fish_seen_subcommand_from ls" -l user-agent-prefix -d 'Put this text before rpub\'s own in the user agent' -r
complete -c rpub -n "__fish_rpub_using_subcommand bundle; and __fish_seen_subcommand_from ls" -l authfile -d 'Look for logins in this file only; login and logout change it' -r -F
complete -c rpub -n "__fish_rpub_using_subcommand bundle; and __fish_seen_subcommand_from ls" -l src-authfile -d 'Look for logins for what is read from registries in this file only' -r -F
complete -c rpub -n "__fish_rpub_using_subcommand bundle; and __fish_seen_subcommand_from ls" -l dest-authfile -d 'Look for logins for what is written to registries in this file only' -r -F
complete -c rpub -n "__fish_rpub_using_subcommand bundle; and __fish_seen_subcommand_from ls" -l registry-token-file -d 'Send the bearer token in this file to this registry (repeatable)' -r
complete -c rpub -n "__fish_rpub_using_subcommand bundle; and __fish_seen_subcommand_from ls" -l inventory -d 'Print what is there, blob by blob, as `--delta-from` reads it'
complete -c rpub -n "__fish_rpub_using_subcommand bundle; and __fish_seen_subcommand_from ls" -s q -l quiet -d 'Show no progress, print only the result'
complete -c rpub -n "__fish_rpub_using_subcommand bundle; and __fish_seen_subcommand_from ls" -l offline -d 'Open no connection to anybody: what is here counts, as it was last seen'
complete -c rpub -n "__fish_rpub_using_subcommand bundle; and __fish_seen_subcommand_from ls" -s h -l help -d 'Print help'
complete -c rpub -n "__fish_rpub_using_subcommand bundle; and __fish_seen_subcommand_from diff" -l format -d 'Print json, the template given, or with table before it a table: \'table {{.ID}}\'' -r
complete -c rpub -n "__fish_rpub_using_subcommand bundle; and __fish_seen_subcommand_from diff" -l store -d 'Keep images, layers and the build cache here [default: ~/.local/share/rpub]' -r -F
complete -c rpub -n "__fish_rpub_using_subcommand bundle; and __fish_seen_subcommand_from diff" -l cache-size -d 'Keep the build cache within this size [default: a fifth of the disk, 10 to 100 GiB]' -r
complete -c rpub -n "__fish_rpub_using_subcommand bundle; and __fish_seen_subcommand_from diff" -l progress -d 'Show progress as auto, tty, plain, quiet or rawjson' -r -f -a "auto\t'Bars on a terminal, plain lines elsewhere'
tty\t'Bars'
plain\t'Numbered lines'
quiet\t'Nothing but warnings and errors'
rawjson\t'One JSON object a line, for programs'"
complete -c rpub -n "__fish_rpub_using_subcommand bundle; and __fish_seen_subcommand_from diff" -l insecure-registry -d 'Allow TLS with any certificate, or else plain HTTP, for this registry (repeatable)' -r
complete -c rpub -n "__fish_rpub_using_subcommand bundle; and __fish_seen_subcommand_from diff" -l plain-http -d 'Reach this registry by plain HTTP (repeatable)' -r
complete -c rpub -n "__fish_rpub_using_subcommand bundle; and __fish_seen_subcommand_from diff" -l skip-tls-verify -d 'Do not verify the certificate of this registry (repeatable)' -r
complete -c rpub -n "__fish_rpub_using_subcommand bundle; and __fish_seen_subcommand_from diff" -l ca-file -d 'Also trust the certificate authorities in this PEM file (repeatable)' -r -F
complete -c rpub -n "__fish_rpub_using_subcommand bundle; and __fish_seen_subcommand_from diff" -l cert-dir -d 'Use the authorities (*.crt) and client certificate (*.cert, *.key) in this directory' -r -F
complete -c rpub -n "__fish_rpub_using_subcommand bundle; and __fish_seen_subcommand_from diff" -l registries-conf -d 'Read mirrors from this file [default: containers/registries.conf in ~/.config or /etc]' -r -F
complete -c rpub -n "__fish_rpub_using_subcommand bundle; and __fish_seen_subcommand_from diff" -l retry-times -d 'Try a failed request so many times more [default: 4]' -r
complete -c rpub -n "__fish_rpub_using_subcommand bundle; and __fish_seen_subcommand_from diff" -l retry-delay -d 'Wait so long before the first retry, twice as long before each further one [default: 500ms]' -r
complete -c rpub -n "__fish_rpub_using_subcommand bundle; and __fish_seen_subcommand_from diff" -l max-wait -d 'Give up at once when a registry asks for a longer wait than this [default: 1m]' -r
complete -c rpub -n "__fish_rpub_using_subcommand bundle; and __fish_seen_subcommand_from diff" -l idle-timeout -d 'Break off when a registry does nothing for so long [default: 90s]' -r
complete -c rpub -n "__fish_rpub_using_subcommand bundle; and __fish_seen_subcommand_from diff" -l concurrency -d 'Move at most so many blobs at once each way [default: what the registry takes, up to 16]' -r
complete -c rpub -n "__fish_rpub_using_subcommand bundle; and __fish_seen_subcommand_from diff" -l limit-rate -d 'Move at most so many bytes a second, both ways together, as in 5MB' -r
complete -c rpub -n "__fish_rpub_using_subcommand bundle; and __fish_seen_subcommand_from diff" -l resolve -d 'Connect to this address for a registry\'s host and port (repeatable)' -r
complete -c rpub -n "__fish_rpub_using_subcommand bundle; and __fish_seen_subcommand_from diff" -l http-header -d 'Send this header to registries; @FILE reads lines from a file (repeatable)' -r
complete -c rpub -n "__fish_rpub_using_subcommand bundle; and __fish_seen_subcommand_from diff" -l user-agent-prefix -d 'Put this text before rpub\'s own in the user agent' -r
complete -c rpub -n "__fish_rpub_using_subcommand bundle; and __fish_seen_subcommand_from diff" -l authfile -d 'Look for logins in this file only; login and logout change it' -r -F
complete -c rpub -n "__fish_rpub_using_subcommand bundle; and __fish_seen_subcommand_from diff" -l src-authfile -d 'Look for logins for what is read from registries in this file only' -r -F
complete -c rpub -n "__fish_rpub_using_subcommand bundle; and __fish_seen_subcommand_from diff" -l dest-authfile -d 'Look for logins for what is written to registries in this file only' -r -F
complete -c rpub -n "__fish_rpub_using_subcommand bundle; and __fish_seen_subcommand_from diff" -l registry-token-file -d 'Send the bearer token in this file to this registry (repeatable)' -r
complete -c rpub -n "__fish_rpub_using_subcommand bundle; and __fish_seen_subcommand_from diff" -s q -l quiet -d 'Show no progress, print only the result'
complete -c rpub -n "__fish_rpub_using_subcommand bundle; and __fish_seen_subcommand_from diff" -l offline -d 'Open no connection to anybody: what is here counts, as it was last seen'
complete -c rpub -n "__fish_rpub_using_subcommand bundle; and __fish_seen_subcommand_from diff" -s h -l help -d 'Print help'
complete -c rpub -n "__fish_rpub_using_subcommand bundle; and __fish_seen_subcommand_from help" -f -a "create" -d 'Put images into a new bundle; one that was begun is gone on with'
complete -c rpub -n "__fish_rpub_using_subcommand bundle; and __fish_seen_subcommand_from help" -f -a "add" -d 'Add images to a bundle'
complete -c rpub -n "__fish_rpub_using_subcommand bundle; and __fish_seen_subcommand_from help" -f -a "load" -d 'Load the images of a bundle into the store, or into a registry; the store needs no network'
complete -c rpub -n "__fish_rpub_using_subcommand bundle; and __fish_seen_subcommand_from help" -f -a "verify" -d 'Read a bundle whole: hash everything again, and see whether anything is missing'
complete -c rpub -n "__fish_rpub_using_subcommand bundle; and __fish_seen_subcommand_from help" -f -a "ls" -d 'List the images of a bundle, or write down what a place has for `--delta-from`'
complete -c rpub -n "__fish_rpub_using_subcommand bundle; and __fish_seen_subcommand_from help" -f -a "diff" -d 'Show in what two bundles differ'
complete -c rpub -n "__fish_rpub_using_subcommand bundle; and __fish_seen_subcommand_from help" -f -a "help" -d 'Print this message or the help of the given subcommand(s)'
complete -c rpub -n "__fish_rpub_using_subcommand copy" -l platform -d 'Copy only these platforms: one gives its image, several a smaller index [default: all]' -r
complete -c rpub -n "__fish_rpub_using_subcommand copy" -l artifact-type -d 'Copy only referrers of this artifact type (repeatable)' -r
complete -c rpub -n "__fish_rpub_using_subcommand copy" -l compression -d 'Compress layers by gzip, zstd, or not at all (uncompressed) [default: as they are]' -r
complete -c rpub -n "__fish_rpub_using_subcommand copy" -l compression-level -d 'Compress them at this level' -r
complete -c rpub -n "__fish_rpub_using_subcommand copy" -l digestfile -d 'Write the digest of what was copied to this file' -r -F
complete -c rpub -n "__fish_rpub_using_subcommand copy" -l format -d 'Print json, the template given, or with table before it a table: \'table {{.ID}}\'' -r
complete -c rpub -n "__fish_rpub_using_subcommand copy" -l store -d 'Keep images, layers and the build cache here [default: ~/.local/share/rpub]' -r -F
complete -c rpub -n "__fish_rpub_using_subcommand copy" -l cache-size -d 'Keep the build cache within this size [default: a fifth of the disk, 10 to 100 GiB]' -r
complete -c rpub -n "__fish_rpub_using_subcommand copy" -l progress -d 'Show progress as auto, tty, plain, quiet or rawjson' -r -f -a "auto\t'Bars on a terminal, plain lines elsewhere'
tty\t'Bars'
plain\t'Numbered lines'
quiet\t'Nothing but warnings and errors'
rawjson\t'One JSON object a line, for programs'"
complete -c rpub -n "__fish_rpub_using_subcommand copy" -l insecure-registry -d 'Allow TLS with any certificate, or else plain HTTP, for this registry (repeatable)' -r
complete -c rpub -n "__fish_rpub_using_subcommand copy" -l plain-http -d 'Reach this registry by plain HTTP (repeatable)' -r
complete -c rpub -n "__fish_rpub_using_subcommand copy" -l skip-tls-verify -d 'Do not verify the certificate of this registry (repeatable)' -r
complete -c rpub -n "__fish_rpub_using_subcommand copy" -l ca-file -d 'Also trust the certificate authorities in this PEM file (repeatable)' -r -F
complete -c rpub -n "__fish_rpub_using_subcommand copy" -l cert-dir -d 'Use the authorities (*.crt) and client certificate (*.cert, *.key) in this directory' -r -F
complete -c rpub -n "__fish_rpub_using_subcommand copy" -l registries-conf -d 'Read mirrors from this file [default: containers/registries.conf in ~/.config or /etc]' -r -F
complete -c rpub -n "__fish_rpub_using_subcommand copy" -l retry-times -d 'Try a failed request so many times more [default: 4]' -r
complete -c rpub -n "__fish_rpub_using_subcommand copy" -l retry-delay -d 'Wait so long before the first retry, twice as long before each further one [default: 500ms]' -r
complete -c rpub -n "__fish_rpub_using_subcommand copy" -l max-wait -d 'Give up at once when a registry asks for a longer wait than this [default: 1m]' -r
complete -c rpub -n "__fish_rpub_using_subcommand copy" -l idle-timeout -d 'Break off when a registry does nothing for so long [default: 90s]' -r
complete -c rpub -n "__fish_rpub_using_subcommand copy" -l concurrency -d 'Move at most so many blobs at once each way [default: what the registry takes, up to 16]' -r
complete -c rpub -n "__fish_rpub_using_subcommand copy" -l limit-rate -d 'Move at most so many bytes a second, both ways together, as in 5MB' -r
complete -c rpub -n "__fish_rpub_using_subcommand copy" -l resolve -d 'Connect to this address for a registry\'s host and port (repeatable)' -r
complete -c rpub -n "__fish_rpub_using_subcommand copy" -l http-header -d 'Send this header to registries; @FILE reads lines from a file (repeatable)' -r
complete -c rpub -n "__fish_rpub_using_subcommand copy" -l user-agent-prefix -d 'Put this text before rpub\'s own in the user agent' -r
complete -c rpub -n "__fish_rpub_using_subcommand copy" -l authfile -d 'Look for logins in this file only; login and logout change it' -r -F
complete -c rpub -n "__fish_rpub_using_subcommand copy" -l src-authfile -d 'Look for logins for what is read from registries in this file only' -r -F
complete -c rpub -n "__fish_rpub_using_subcommand copy" -l dest-authfile -d 'Look for logins for what is written to registries in this file only' -r -F
complete -c rpub -n "__fish_rpub_using_subcommand copy" -l registry-token-file -d 'Send the bearer token in this file to this registry (repeatable)' -r
complete -c rpub -n "__fish_rpub_using_subcommand copy" -s a -l all-tags -d 'Copy every tag of the source\'s repository to the targets\' repositories'
complete -c rpub -n "__fish_rpub_using_subcommand copy" -l sparse-index -d 'Keep the index as it is though images of other platforms will be missing'
complete -c rpub -n "__fish_rpub_using_subcommand copy" -l no-referrers -d 'Leave signatures, attestations and other referrers behind'
complete -c rpub -n "__fish_rpub_using_subcommand copy" -l no-digest-tags -d 'Leave the tags behind under which cosign keeps signatures (sha256-....sig)'
complete -c rpub -n "__fish_rpub_using_subcommand copy" -l include-external -d 'Also copy layers that say where else they are, such as those of Windows'
complete -c rpub -n "__fish_rpub_using_subcommand copy" -l to-oci -d 'Change Docker\'s media types to OCI\'s'
complete -c rpub -n "__fish_rpub_using_subcommand copy" -l to-docker -d 'Change OCI\'s media types to Docker\'s'
complete -c rpub -n "__fish_rpub_using_subcommand copy" -s n -l no-clobber -d 'Leave tags alone that the targets have'
complete -c rpub -n "__fish_rpub_using_subcommand copy" -s q -l quiet -d 'Show no progress, print only the result'
complete -c rpub -n "__fish_rpub_using_subcommand copy" -l offline -d 'Open no connection to anybody: what is here counts, as it was last seen'
complete -c rpub -n "__fish_rpub_using_subcommand copy" -s h -l help -d 'Print help'
complete -c rpub -n "__fish_rpub_using_subcommand mirror; and not __fish_seen_subcommand_from plan convert schema help" -l from -d 'Read the file in the words of this tool [default: found out]' -r -f -a "rpub\t'rpub\'s own format'
skopeo\t'skopeo sync --src yaml'
regsync\t'regsync'
digests\t'Lines of a reference and its digest, as --digest-file writes them'"
complete -c rpub -n "__fish_rpub_using_subcommand mirror; and not __fish_seen_subcommand_from plan convert schema help" -l to -d 'Where images go by a file that does not say it (repeatable)' -r
complete -c rpub -n "__fish_rpub_using_subcommand mirror; and not __fish_seen_subcommand_from plan convert schema help" -l shard -d 'Do the part INDEX of COUNT, from 1; auto takes both from the environment, auto/COUNT the index' -r
complete -c rpub -n "__fish_rpub_using_subcommand mirror; and not __fish_seen_subcommand_from plan convert schema help" -l digest-file -l digestfile -d 'Write a line REFERENCE DIGEST for each image to this file; JSON when it ends in .json' -r -F
complete -c rpub -n "__fish_rpub_using_subcommand mirror; and not __fish_seen_subcommand_from plan convert schema help" -l report -d 'Write what became of each image to this file, as JSON' -r -F
complete -c rpub -n "__fish_rpub_using_subcommand mirror; and not __fish_seen_subcommand_from plan convert schema help" -l format -d 'Print json, the template given, or with table before it a table: \'table {{.ID}}\'' -r
complete -c rpub -n "__fish_rpub_using_subcommand mirror; and not __fish_seen_subcommand_from plan convert schema help" -l store -d 'Keep images, layers and the build cache here [default: ~/.local/share/rpub]' -r -F
complete -c rpub -n "__fish_rpub_using_subcommand mirror; and not __fish_seen_subcommand_from plan convert schema help" -l cache-size -d 'Keep the build cache within this size [default: a fifth of the disk, 10 to 100 GiB]' -r
complete -c rpub -n "__fish_rpub_using_subcommand mirror; and not __fish_seen_subcommand_from plan convert schema help" -l progress -d 'Show progress as auto, tty, plain, quiet or rawjson' -r -f -a "auto\t'Bars on a terminal, plain lines elsewhere'
tty\t'Bars'
plain\t'Numbered lines'
quiet\t'Nothing but warnings and errors'
rawjson\t'One JSON object a line, for programs'"
complete -c rpub -n "__fish_rpub_using_subcommand mirror; and not __fish_seen_subcommand_from plan convert schema help" -l insecure-registry -d 'Allow TLS with any certificate, or else plain HTTP, for this registry (repeatable)' -r
complete -c rpub -n "__fish_rpub_using_subcommand mirror; and not __fish_seen_subcommand_from plan convert schema help" -l plain-http -d 'Reach this registry by plain HTTP (repeatable)' -r
complete -c rpub -n "__fish_rpub_using_subcommand mirror; and not __fish_seen_subcommand_from plan convert schema help" -l skip-tls-verify -d 'Do not verify the certificate of this registry (repeatable)' -r
complete -c rpub -n "__fish_rpub_using_subcommand mirror; and not __fish_seen_subcommand_from plan convert schema help" -l ca-file -d 'Also trust the certificate authorities in this PEM file (repeatable)' -r -F
complete -c rpub -n "__fish_rpub_using_subcommand mirror; and not __fish_seen_subcommand_from plan convert schema help" -l cert-dir -d 'Use the authorities (*.crt) and client certificate (*.cert, *.key) in this directory' -r -F
complete -c rpub -n "__fish_rpub_using_subcommand mirror; and not __fish_seen_subcommand_from plan convert schema help" -l registries-conf -d 'Read mirrors from this file [default: containers/registries.conf in ~/.config or /etc]' -r -F
complete -c rpub -n "__fish_rpub_using_subcommand mirror; and not __fish_seen_subcommand_from plan convert schema help" -l retry-times -d 'Try a failed request so many times more [default: 4]' -r
complete -c rpub -n "__fish_rpub_using_subcommand mirror; and not __fish_seen_subcommand_from plan convert schema help" -l retry-delay -d 'Wait so long before the first retry, twice as long before each further one [default: 500ms]' -r
complete -c rpub -n "__fish_rpub_using_subcommand mirror; and not __fish_seen_subcommand_from plan convert schema help" -l max-wait -d 'Give up at once when a registry asks for a longer wait than this [default: 1m]' -r
complete -c rpub -n "__fish_rpub_using_subcommand mirror; and not __fish_seen_subcommand_from plan convert schema help" -l idle-timeout -d 'Break off when a registry does nothing for so long [default: 90s]' -r
complete -c rpub -n "__fish_rpub_using_subcommand mirror; and not __fish_seen_subcommand_from plan convert schema help" -l concurrency -d 'Move at most so many blobs at once each way [default: what the registry takes, up to 16]' -r
complete -c rpub -n "__fish_rpub_using_subcommand mirror; and not __fish_seen_subcommand_from plan convert schema help" -l limit-rate -d 'Move at most so many bytes a second, both ways together, as in 5MB' -r
complete -c rpub -n "__fish_rpub_using_subcommand mirror; and not __fish_seen_subcommand_from plan convert schema help" -l resolve -d 'Connect to this address for a registry\'s host and port (repeatable)' -r
complete -c rpub -n "__fish_rpub_using_subcommand mirror; and not __fish_seen_subcommand_from plan convert schema help" -l http-header -d 'Send this header to registries; @FILE reads lines from a file (repeatable)' -r
complete -c rpub -n "__fish_rpub_using_subcommand mirror; and not __fish_seen_subcommand_from plan convert schema help" -l user-agent-prefix -d 'Put this text before rpub\'s own in the user agent' -r
complete -c rpub -n "__fish_rpub_using_subcommand mirror; and not __fish_seen_subcommand_from plan convert schema help" -l authfile -d 'Look for logins in this file only; login and logout change it' -r -F
complete -c rpub -n "__fish_rpub_using_subcommand mirror; and not __fish_seen_subcommand_from plan convert schema help" -l src-authfile -d 'Look for logins for what is read from registries in this file only' -r -F
complete -c rpub -n "__fish_rpub_using_subcommand mirror; and not __fish_seen_subcommand_from plan convert schema help" -l dest-authfile -d 'Look for logins for what is written to registries in this file only' -r -F
complete -c rpub -n "__fish_rpub_using_subcommand mirror; and not __fish_seen_subcommand_from plan convert schema help" -l registry-token-file -d 'Send the bearer token in this file to this registry (repeatable)' -r
complete -c rpub -n "__fish_rpub_using_subcommand mirror; and not __fish_seen_subcommand_from plan convert schema help" -l dry-run -d 'Only show what would be done, as `rpub mirror plan`'
complete -c rpub -n "__fish_rpub_using_subcommand mirror; and not __fish_seen_subcommand_from plan convert schema help" -l delete -d 'Remove the tags that rules with delete = "extra" do not copy'
complete -c rpub -n "__fish_rpub_using_subcommand mirror; and not __fish_seen_subcommand_from plan convert schema help" -l recheck -d 'Also ask about immutable tags, and what refers to images that have not changed'
complete -c rpub -n "__fish_rpub_using_subcommand mirror; and not __fish_seen_subcommand_from plan convert schema help" -s q -l quiet -d 'Show no progress, print only the result'
complete -c rpub -n "__fish_rpub_using_subcommand mirror; and not __fish_seen_subcommand_from plan convert schema help" -l offline -d 'Open no connection to anybody: what is here counts, as it was last seen'
complete -c rpub -n "__fish_rpub_using_subcommand mirror; and not __fish_seen_subcommand_from plan convert schema help" -s h -l help -d 'Print help (see more with \'--help\')'
complete -c rpub -n "__fish_rpub_using_subcommand mirror; and not __fish_seen_subcommand_from plan convert schema help" -a "plan" -d 'Show what a run would copy, move and cost of quotas'
complete -c rpub -n "__fish_rpub_using_subcommand mirror; and not __fish_seen_subcommand_from plan convert schema help" -a "convert" -d 'Print a file of skopeo\'s or regsync\'s in rpub\'s words'
complete -c rpub -n "__fish_rpub_using_subcommand mirror; and not __fish_seen_subcommand_from plan convert schema help" -a "schema" -d 'Print the JSON schema of mirror files'
complete -c rpub -n "__fish_rpub_using_subcommand mirror; and not __fish_seen_subcommand_from plan convert schema help" -a "help" -d 'Print this message or the help of the given subcommand(s)'
complete -c rpub -n "__fish_rpub_using_subcommand mirror; and __fish_seen_subcommand_from plan" -l from -d 'Read the file in the words of this tool [default: found out]' -r -f -a "rpub\t'rpub\'s own format'
skopeo\t'skopeo sync --src yaml'
regsync\t'regsync'
digests\t'Lines of a reference and its digest, as --digest-file writes them'"
complete -c rpub -n "__fish_rpub_using_subcommand mirror; and __fish_seen_subcommand_from plan" -l to -d 'Where images go by a file that does not say it (repeatable)' -r
complete -c rpub -n "__fish_rpub_using_subcommand mirror; and __fish_seen_subcommand_from plan" -l shard -d 'Look at the part INDEX of COUNT' -r
complete -c rpub -n "__fish_rpub_using_subcommand mirror; and __fish_seen_subcommand_from plan" -l format -d 'Print json, the template given, or with table before it a table: \'table {{.ID}}\'' -r
complete -c rpub -n "__fish_rpub_using_subcommand mirror; and __fish_seen_subcommand_from plan" -l store -d 'Keep images, layers and the build cache here [default: ~/.local/share/rpub]' -r -F
complete -c rpub -n "__fish_rpub_using_subcommand mirror; and __fish_seen_subcommand_from plan" -l cache-size -d 'Keep the build cache within this size [default: a fifth of the disk, 10 to 100 GiB]' -r
complete -c rpub -n "__fish_rpub_using_subcommand mirror; and __fish_seen_subcommand_from plan" -l progress -d 'Show progress as auto, tty, plain, quiet or rawjson' -r -f -a "auto\t'Bars on a terminal, plain lines elsewhere'
tty\t'Bars'
plain\t'Numbered lines'
quiet\t'Nothing but warnings and errors'
rawjson\t'One JSON object a line, for programs'"
complete -c rpub -n "__fish_rpub_using_subcommand mirror; and __fish_seen_subcommand_from plan" -l insecure-registry -d 'Allow TLS with any certificate, or else plain HTTP, for this registry (repeatable)' -r
complete -c rpub -n "__fish_rpub_using_subcommand mirror; and __fish_seen_subcommand_from plan" -l plain-http -d 'Reach this registry by plain HTTP (repeatable)' -r
complete -c rpub -n "__fish_rpub_using_subcommand mirror; and __fish_seen_subcommand_from plan" -l skip-tls-verify -d 'Do not verify the certificate of this registry (repeatable)' -r
complete -c rpub -n "__fish_rpub_using_subcommand mirror; and __fish_seen_subcommand_from plan" -l ca-file -d 'Also trust the certificate authorities in this PEM file (repeatable)' -r -F
complete -c rpub -n "__fish_rpub_using_subcommand mirror; and __fish_seen_subcommand_from plan" -l cert-dir -d 'Use the authorities (*.crt) and client certificate (*.cert, *.key) in this directory' -r -F
complete -c rpub -n "__fish_rpub_using_subcommand mirror; and __fish_seen_subcommand_from plan" -l registries-conf -d 'Read mirrors from this file [default: containers/registries.conf in ~/.config or /etc]' -r -F
complete -c rpub -n "__fish_rpub_using_subcommand mirror; and __fish_seen_subcommand_from plan" -l retry-times -d 'Try a failed request so many times more [default: 4]' -r
complete -c rpub -n "__fish_rpub_using_subcommand mirror; and __fish_seen_subcommand_from plan" -l retry-delay -d 'Wait so long before the first retry, twice as long before each further one [default: 500ms]' -r
complete -c rpub -n "__fish_rpub_using_subcommand mirror; and __fish_seen_subcommand_from plan" -l max-wait -d 'Give up at once when a registry asks for a longer wait than this [default: 1m]' -r
complete -c rpub -n "__fish_rpub_using_subcommand mirror; and __fish_seen_subcommand_from plan" -l idle-timeout -d 'Break off when a registry does nothing for so long [default: 90s]' -r
complete -c rpub -n "__fish_rpub_using_subcommand mirror; and __fish_seen_subcommand_from plan" -l concurrency -d 'Move at most so many blobs at once each way [default: what the registry takes, up to 16]' -r
complete -c rpub -n "__fish_rpub_using_subcommand mirror; and __fish_seen_subcommand_from plan" -l limit-rate -d 'Move at most so many bytes a second, both ways together, as in 5MB' -r
complete -c rpub -n "__fish_rpub_using_subcommand mirror; and __fish_seen_subcommand_from plan" -l resolve -d 'Connect to this address for a registry\'s host and port (repeatable)' -r
complete -c rpub -n "__fish_rpub_using_subcommand mirror; and __fish_seen_subcommand_from plan" -l http-header -d 'Send this header to registries; @FILE reads lines from a file (repeatable)' -r
complete -c rpub -n "__fish_rpub_using_subcommand mirror; and __fish_seen_subcommand_from plan" -l user-agent-prefix -d 'Put this text before rpub\'s own in the user agent' -r
complete -c rpub -n "__fish_rpub_using_subcommand mirror; and __fish_seen_subcommand_from plan" -l authfile -d 'Look for logins in this file only; login and logout change it' -r -F
complete -c rpub -n "__fish_rpub_using_subcommand mirror; and __fish_seen_subcommand_from plan" -l src-authfile -d 'Look for logins for what is read from registries in this file only' -r -F
complete -c rpub -n "__fish_rpub_using_subcommand mirror; and __fish_seen_subcommand_from plan" -l dest-authfile -d 'Look for logins for what is written to registries in this file only' -r -F
complete -c rpub -n "__fish_rpub_using_subcommand mirror; and __fish_seen_subcommand_from plan" -l registry-token-file -d 'Send the bearer token in this file to this registry (repeatable)' -r
complete -c rpub -n "__fish_rpub_using_subcommand mirror; and __fish_seen_subcommand_from plan" -l exact -d 'Also read manifests that count against a quota; they are kept, and the run needs them no more'
complete -c rpub -n "__fish_rpub_using_subcommand mirror; and __fish_seen_subcommand_from plan" -s q -l quiet -d 'Show no progress, print only the result'
complete -c rpub -n "__fish_rpub_using_subcommand mirror; and __fish_seen_subcommand_from plan" -l offline -d 'Open no connection to anybody: what is here counts, as it was last seen'
complete -c rpub -n "__fish_rpub_using_subcommand mirror; and __fish_seen_subcommand_from plan" -s h -l help -d 'Print help (see more with \'--help\')'
complete -c rpub -n "__fish_rpub_using_subcommand mirror; and __fish_seen_subcommand_from convert" -l from -d 'Read the file in the words of this tool [default: found out]' -r -f -a "rpub\t'rpub\'s own format'
skopeo\t'skopeo sync --src yaml'
regsync\t'regsync'
digests\t'Lines of a reference and its digest, as --digest-file writes them'"
complete -c rpub -n "__fish_rpub_using_subcommand mirror; and __fish_seen_subcommand_from convert" -l to -d 'Where images go by a file that does not say it (repeatable)' -r
complete -c rpub -n "__fish_rpub_using_subcommand mirror; and __fish_seen_subcommand_from convert" -l store -d 'Keep images, layers and the build cache here [default: ~/.local/share/rpub]' -r -F
complete -c rpub -n "__fish_rpub_using_subcommand mirror; and __fish_seen_subcommand_from convert" -l cache-size -d 'Keep the build cache within this size [default: a fifth of the disk, 10 to 100 GiB]' -r
complete -c rpub -n "__fish_rpub_using_subcommand mirror; and __fish_seen_subcommand_from convert" -l progress -d 'Show progress as auto, tty, plain, quiet or rawjson' -r -f -a "auto\t'Bars on a terminal, plain lines elsewhere'
tty\t'Bars'
plain\t'Numbered lines'
quiet\t'Nothing but warnings and errors'
rawjson\t'One JSON object a line, for programs'"
complete -c rpub -n "__fish_rpub_using_subcommand mirror; and __fish_seen_subcommand_from convert" -l insecure-registry -d 'Allow TLS with any certificate, or else plain HTTP, for this registry (repeatable)' -r
complete -c rpub -n "__fish_rpub_using_subcommand mirror; and __fish_seen_subcommand_from convert" -l plain-http -d 'Reach this registry by plain HTTP (repeatable)' -r
complete -c rpub -n "__fish_rpub_using_subcommand mirror; and __fish_seen_subcommand_from convert" -l skip-tls-verify -d 'Do not verify the certificate of this registry (repeatable)' -r
complete -c rpub -n "__fish_rpub_using_subcommand mirror; and __fish_seen_subcommand_from convert" -l ca-file -d 'Also trust the certificate authorities in this PEM file (repeatable)' -r -F
complete -c rpub -n "__fish_rpub_using_subcommand mirror; and __fish_seen_subcommand_from convert" -l cert-dir -d 'Use the authorities (*.crt) and client certificate (*.cert, *.key) in this directory' -r -F
complete -c rpub -n "__fish_rpub_using_subcommand mirror; and __fish_seen_subcommand_from convert" -l registries-conf -d 'Read mirrors from this file [default: containers/registries.conf in ~/.config or /etc]' -r -F
complete -c rpub -n "__fish_rpub_using_subcommand mirror; and __fish_seen_subcommand_from convert" -l retry-times -d 'Try a failed request so many times more [default: 4]' -r
complete -c rpub -n "__fish_rpub_using_subcommand mirror; and __fish_seen_subcommand_from convert" -l retry-delay -d 'Wait so long before the first retry, twice as long before each further one [default: 500ms]' -r
complete -c rpub -n "__fish_rpub_using_subcommand mirror; and __fish_seen_subcommand_from convert" -l max-wait -d 'Give up at once when a registry asks for a longer wait than this [default: 1m]' -r
complete -c rpub -n "__fish_rpub_using_subcommand mirror; and __fish_seen_subcommand_from convert" -l idle-timeout -d 'Break off when a registry does nothing for so long [default: 90s]' -r
complete -c rpub -n "__fish_rpub_using_subcommand mirror; and __fish_seen_subcommand_from convert" -l concurrency -d 'Move at most so many blobs at once each way [default: what the registry takes, up to 16]' -r
complete -c rpub -n "__fish_rpub_using_subcommand mirror; and __fish_seen_subcommand_from convert" -l limit-rate -d 'Move at most so many bytes a second, both ways together, as in 5MB' -r
complete -c rpub -n "__fish_rpub_using_subcommand mirror; and __fish_seen_subcommand_from convert" -l resolve -d 'Connect to this address for a registry\'s host and port (repeatable)' -r
complete -c rpub -n "__fish_rpub_using_subcommand mirror; and __fish_seen_subcommand_from convert" -l http-header -d 'Send this header to registries; @FILE reads lines from a file (repeatable)' -r
complete -c rpub -n "__fish_rpub_using_subcommand mirror; and __fish_seen_subcommand_from convert" -l user-agent-prefix -d 'Put this text before rpub\'s own in the user agent' -r
complete -c rpub -n "__fish_rpub_using_subcommand mirror; and __fish_seen_subcommand_from convert" -l authfile -d 'Look for logins in this file only; login and logout change it' -r -F
complete -c rpub -n "__fish_rpub_using_subcommand mirror; and __fish_seen_subcommand_from convert" -l src-authfile -d 'Look for logins for what is read from registries in this file only' -r -F
complete -c rpub -n "__fish_rpub_using_subcommand mirror; and __fish_seen_subcommand_from convert" -l dest-authfile -d 'Look for logins for what is written to registries in this file only' -r -F
complete -c rpub -n "__fish_rpub_using_subcommand mirror; and __fish_seen_subcommand_from convert" -l registry-token-file -d 'Send the bearer token in this file to this registry (repeatable)' -r
complete -c rpub -n "__fish_rpub_using_subcommand mirror; and __fish_seen_subcommand_from convert" -s q -l quiet -d 'Show no progress, print only the result'
complete -c rpub -n "__fish_rpub_using_subcommand mirror; and __fish_seen_subcommand_from convert" -l offline -d 'Open no connection to anybody: what is here counts, as it was last seen'
complete -c rpub -n "__fish_rpub_using_subcommand mirror; and __fish_seen_subcommand_from convert" -s h -l help -d 'Print help (see more with \'--help\')'
complete -c rpub -n "__fish_rpub_using_subcommand mirror; and __fish_seen_subcommand_from schema" -l store -d 'Keep images, layers and the build cache here [default: ~/.local/share/rpub]' -r -F
complete -c rpub -n "__fish_rpub_using_subcommand mirror; and __fish_seen_subcommand_from schema" -l cache-size -d 'Keep the build cache within this size [default: a fifth of the disk, 10 to 100 GiB]' -r
complete -c rpub -n "__fish_rpub_using_subcommand mirror; and __fish_seen_subcommand_from schema" -l progress -d 'Show progress as auto, tty, plain, quiet or rawjson' -r -f -a "auto\t'Bars on a terminal, plain lines elsewhere'
tty\t'Bars'
plain\t'Numbered lines'
quiet\t'Nothing but warnings and errors'
rawjson\t'One JSON object a line, for programs'"
complete -c rpub -n "__fish_rpub_using_subcommand mirror; and __fish_seen_subcommand_from schema" -l insecure-registry -d 'Allow TLS with any certificate, or else plain HTTP, for this registry (repeatable)' -r
complete -c rpub -n "__fish_rpub_using_subcommand mirror; and __fish_seen_subcommand_from schema" -l plain-http -d 'Reach this registry by plain HTTP (repeatable)' -r
complete -c rpub -n "__fish_rpub_using_subcommand mirror; and __fish_seen_subcommand_from schema" -l skip-tls-verify -d 'Do not verify the certificate of this registry (repeatable)' -r
complete -c rpub -n "__fish_rpub_using_subcommand mirror; and __fish_seen_subcommand_from schema" -l ca-file -d 'Also trust the certificate authorities in this PEM file (repeatable)' -r -F
complete -c rpub -n "__fish_rpub_using_subcommand mirror; and __fish_seen_subcommand_from schema" -l cert-dir -d 'Use the authorities (*.crt) and client certificate (*.cert, *.key) in this directory' -r -F
complete -c rpub -n "__fish_rpub_using_subcommand mirror; and __fish_seen_subcommand_from schema" -l registries-conf -d 'Read mirrors from this file [default: containers/registries.conf in ~/.config or /etc]' -r -F
complete -c rpub -n "__fish_rpub_using_subcommand mirror; and __fish_seen_subcommand_from schema" -l retry-times -d 'Try a failed request so many times more [default: 4]' -r
complete -c rpub -n "__fish_rpub_using_subcommand mirror; and __fish_seen_subcommand_from schema" -l retry-delay -d 'Wait so long before the first retry, twice as long before each further one [default: 500ms]' -r
complete -c rpub -n "__fish_rpub_using_subcommand mirror; and __fish_seen_subcommand_from schema" -l max-wait -d 'Give up at once when a registry asks for a longer wait than this [default: 1m]' -r
complete -c rpub -n "__fish_rpub_using_subcommand mirror; and __fish_seen_subcommand_from schema" -l idle-timeout -d 'Break off when a registry does nothing for so long [default: 90s]' -r
complete -c rpub -n "__fish_rpub_using_subcommand mirror; and __fish_seen_subcommand_from schema" -l concurrency -d 'Move at most so many blobs at once each way [default: what the registry takes, up to 16]' -r
complete -c rpub -n "__fish_rpub_using_subcommand mirror; and __fish_seen_subcommand_from schema" -l limit-rate -d 'Move at most so many bytes a second, both ways together, as in 5MB' -r
complete -c rpub -n "__fish_rpub_using_subcommand mirror; and __fish_seen_subcommand_from schema" -l resolve -d 'Connect to this address for a registry\'s host and port (repeatable)' -r
complete -c rpub -n "__fish_rpub_using_subcommand mirror; and __fish_seen_subcommand_from schema" -l http-header -d 'Send this header to registries; @FILE reads lines from a file (repeatable)' -r
complete -c rpub -n "__fish_rpub_using_subcommand mirror; and __fish_seen_subcommand_from schema" -l user-agent-prefix -d 'Put this text before rpub\'s own in the user agent' -r
complete -c rpub -n "__fish_rpub_using_subcommand mirror; and __fish_seen_subcommand_from schema" -l authfile -d 'Look for logins in this file only; login and logout change it' -r -F
complete -c rpub -n "__fish_rpub_using_subcommand mirror; and __fish_seen_subcommand_from schema" -l src-authfile -d 'Look for logins for what is read from registries in this file only' -r -F
complete -c rpub -n "__fish_rpub_using_subcommand mirror; and __fish_seen_subcommand_from schema" -l dest-authfile -d 'Look for logins for what is written to registries in this file only' -r -F
complete -c rpub -n "__fish_rpub_using_subcommand mirror; and __fish_seen_subcommand_from schema" -l registry-token-file -d 'Send the bearer token in this file to this registry (repeatable)' -r
complete -c rpub -n "__fish_rpub_using_subcommand mirror; and __fish_seen_subcommand_from schema" -s q -l quiet -d 'Show no progress, print only the result'
complete -c rpub -n "__fish_rpub_using_subcommand mirror; and __fish_seen_subcommand_from schema" -l offline -d 'Open no connection to anybody: what is here counts, as it was last seen'
complete -c rpub -n "__fish_rpub_using_subcommand mirror; and __fish_seen_subcommand_from schema" -s h -l help -d 'Print help'
complete -c rpub -n "__fish_rpub_using_subcommand mirror; and __fish_seen_subcommand_from help" -f -a "plan" -d 'Show what a run would copy, move and cost of quotas'
complete -c rpub -n "__fish_rpub_using_subcommand mirror; and __fish_seen_subcommand_from help" -f -a "convert" -d 'Print a file of skopeo\'s or regsync\'s in rpub\'s words'
complete -c rpub -n "__fish_rpub_using_subcommand mirror; and __fish_seen_subcommand_from help" -f -a "schema" -d 'Print the JSON schema of mirror files'
complete -c rpub -n "__fish_rpub_using_subcommand mirror; and __fish_seen_subcommand_from help" -f -a "help" -d 'Print this message or the help of the given subcommand(s)'
complete -c rpub -n "__fish_rpub_using_subcommand save" -s o -l output -d 'Write to this file instead of standard output' -r -F
complete -c rpub -n "__fish_rpub_using_subcommand save" -l format -d 'Write what docker loads, an OCI archive, an OCI layout in a directory, or a bundle' -r -f -a "docker-archive\t'What `docker save` writes'
oci-archive\t'An OCI layout in a tar'
oci\t'An OCI layout in a directory'
bundle\t'A bundle'"
complete -c rpub -n "__fish_rpub_using_subcommand save" -l platform -d 'Of an index, save the images for these platforms [default: all; in docker-archive this machine\'s]' -r
complete -c rpub -n "__fish_rpub_using_subcommand save" -l store -d 'Keep images, layers and the build cache here [default: ~/.local/share/rpub]' -r -F
complete -c rpub -n "__fish_rpub_using_subcommand save" -l cache-size -d 'Keep the build cache within this size [default: a fifth of the disk, 10 to 100 GiB]' -r
complete -c rpub -n "__fish_rpub_using_subcommand save" -l progress -d 'Show progress as auto, tty, plain, quiet or rawjson' -r -f -a "auto\t'Bars on a terminal, plain lines elsewhere'
tty\t'Bars'
plain\t'Numbered lines'
quiet\t'Nothing but warnings and errors'
rawjson\t'One JSON object a line, for programs'"
complete -c rpub -n "__fish_rpub_using_subcommand save" -l insecure-registry -d 'Allow TLS with any certificate, or else plain HTTP, for this registry (repeatable)' -r
complete -c rpub -n "__fish_rpub_using_subcommand save" -l plain-http -d 'Reach this registry by plain HTTP (repeatable)' -r
complete -c rpub -n "__fish_rpub_using_subcommand save" -l skip-tls-verify -d 'Do not verify the certificate of this registry (repeatable)' -r
complete -c rpub -n "__fish_rpub_using_subcommand save" -l ca-file -d 'Also trust the certificate authorities in this PEM file (repeatable)' -r -F
complete -c rpub -n "__fish_rpub_using_subcommand save" -l cert-dir -d 'Use the authorities (*.crt) and client certificate (*.cert, *.key) in this directory' -r -F
complete -c rpub -n "__fish_rpub_using_subcommand save" -l registries-conf -d 'Read mirrors from this file [default: containers/registries.conf in ~/.config or /etc]' -r -F
complete -c rpub -n "__fish_rpub_using_subcommand save" -l retry-times -d 'Try a failed request so many times more [default: 4]' -r
complete -c rpub -n "__fish_rpub_using_subcommand save" -l retry-delay -d 'Wait so long before the first retry, twice as long before each further one [default: 500ms]' -r
complete -c rpub -n "__fish_rpub_using_subcommand save" -l max-wait -d 'Give up at once when a registry asks for a longer wait than this [default: 1m]' -r
complete -c rpub -n "__fish_rpub_using_subcommand save" -l idle-timeout -d 'Break off when a registry does nothing for so long [default: 90s]' -r
complete -c rpub -n "__fish_rpub_using_subcommand save" -l concurrency -d 'Move at most so many blobs at once each way [default: what the registry takes, up to 16]' -r
complete -c rpub -n "__fish_rpub_using_subcommand save" -l limit-rate -d 'Move at most so many bytes a second, both ways together, as in 5MB' -r
complete -c rpub -n "__fish_rpub_using_subcommand save" -l resolve -d 'Connect to this address for a registry\'s host and port (repeatable)' -r
complete -c rpub -n "__fish_rpub_using_subcommand save" -l http-header -d 'Send this header to registries; @FILE reads lines from a file (repeatable)' -r
complete -c rpub -n "__fish_rpub_using_subcommand save" -l user-agent-prefix -d 'Put this text before rpub\'s own in the user agent' -r
complete -c rpub -n "__fish_rpub_using_subcommand save" -l authfile -d 'Look for logins in this file only; login and logout change it' -r -F
complete -c rpub -n "__fish_rpub_using_subcommand save" -l src-authfile -d 'Look for logins for what is read from registries in this file only' -r -F
complete -c rpub -n "__fish_rpub_using_subcommand save" -l dest-authfile -d 'Look for logins for what is written to registries in this file only' -r -F
complete -c rpub -n "__fish_rpub_using_subcommand save" -l registry-token-file -d 'Send the bearer token in this file to this registry (repeatable)' -r
complete -c rpub -n "__fish_rpub_using_subcommand save" -s q -l quiet -d 'Show no progress, print only the result'
complete -c rpub -n "__fish_rpub_using_subcommand save" -l offline -d 'Open no connection to anybody: what is here counts, as it was last seen'
complete -c rpub -n "__fish_rpub_using_subcommand save" -s h -l help -d 'Print help (see more with \'--help\')'
complete -c rpub -n "__fish_rpub_using_subcommand load" -s i -l input -d 'Read this file or layout instead of standard input' -r -F
complete -c rpub -n "__fish_rpub_using_subcommand load" -l platform -d 'Of an index, load the images for these platforms [default: all]' -r
complete -c rpub -n "__fish_rpub_using_subcommand load" -l store -d 'Keep images, layers and the build cache here [default: ~/.local/share/rpub]' -r -F
complete -c rpub -n "__fish_rpub_using_subcommand load" -l cache-size -d 'Keep the build cache within this size [default: a fifth of the disk, 10 to 100 GiB]' -r
complete -c rpub -n "__fish_rpub_using_subcommand load" -l progress -d 'Show progress as auto, tty, plain, quiet or rawjson' -r -f -a "auto\t'Bars on a terminal, plain lines elsewhere'
tty\t'Bars'
plain\t'Numbered lines'
quiet\t'Nothing but warnings and errors'
rawjson\t'One JSON object a line, for programs'"
complete -c rpub -n "__fish_rpub_using_subcommand load" -l insecure-registry -d 'Allow TLS with any certificate, or else plain HTTP, for this registry (repeatable)' -r
complete -c rpub -n "__fish_rpub_using_subcommand load" -l plain-http -d 'Reach this registry by plain HTTP (repeatable)' -r
complete -c rpub -n "__fish_rpub_using_subcommand load" -l skip-tls-verify -d 'Do not verify the certificate of this registry (repeatable)' -r
complete -c rpub -n "__fish_rpub_using_subcommand load" -l ca-file -d 'Also trust the certificate authorities in this PEM file (repeatable)' -r -F
complete -c rpub -n "__fish_rpub_using_subcommand load" -l cert-dir -d 'Use the authorities (*.crt) and client certificate (*.cert, *.key) in this directory' -r -F
complete -c rpub -n "__fish_rpub_using_subcommand load" -l registries-conf -d 'Read mirrors from this file [default: containers/registries.conf in ~/.config or /etc]' -r -F
complete -c rpub -n "__fish_rpub_using_subcommand load" -l retry-times -d 'Try a failed request so many times more [default: 4]' -r
complete -c rpub -n "__fish_rpub_using_subcommand load" -l retry-delay -d 'Wait so long before the first retry, twice as long before each further one [default: 500ms]' -r
complete -c rpub -n "__fish_rpub_using_subcommand load" -l max-wait -d 'Give up at once when a registry asks for a longer wait than this [default: 1m]' -r
complete -c rpub -n "__fish_rpub_using_subcommand load" -l idle-timeout -d 'Break off when a registry does nothing for so long [default: 90s]' -r
complete -c rpub -n "__fish_rpub_using_subcommand load" -l concurrency -d 'Move at most so many blobs at once each way [default: what the registry takes, up to 16]' -r
complete -c rpub -n "__fish_rpub_using_subcommand load" -l limit-rate -d 'Move at most so many bytes a second, both ways together, as in 5MB' -r
complete -c rpub -n "__fish_rpub_using_subcommand load" -l resolve -d 'Connect to this address for a registry\'s host and port (repeatable)' -r
complete -c rpub -n "__fish_rpub_using_subcommand load" -l http-header -d 'Send this header to registries; @FILE reads lines from a file (repeatable)' -r
complete -c rpub -n "__fish_rpub_using_subcommand load" -l user-agent-prefix -d 'Put this text before rpub\'s own in the user agent' -r
complete -c rpub -n "__fish_rpub_using_subcommand load" -l authfile -d 'Look for logins in this file only; login and logout change it' -r -F
complete -c rpub -n "__fish_rpub_using_subcommand load" -l src-authfile -d 'Look for logins for what is read from registries in this file only' -r -F
complete -c rpub -n "__fish_rpub_using_subcommand load" -l dest-authfile -d 'Look for logins for what is written to registries in this file only' -r -F
complete -c rpub -n "__fish_rpub_using_subcommand load" -l registry-token-file -d 'Send the bearer token in this file to this registry (repeatable)' -r
complete -c rpub -n "__fish_rpub_using_subcommand load" -s q -l quiet -d 'Show no progress, print only the result'
complete -c rpub -n "__fish_rpub_using_subcommand load" -l offline -d 'Open no connection to anybody: what is here counts, as it was last seen'
complete -c rpub -n "__fish_rpub_using_subcommand load" -s h -l help -d 'Print help'
complete -c rpub -n "__fish_rpub_using_subcommand index; and not __fish_seen_subcommand_from create add rm remove annotate inspect help" -l store -d 'Keep images, layers and the build cache here [default: ~/.local/share/rpub]' -r -F
complete -c rpub -n "__fish_rpub_using_subcommand index; and not __fish_seen_subcommand_from create add rm remove annotate inspect help" -l cache-size -d 'Keep the build cache within this size [default: a fifth of the disk, 10 to 100 GiB]' -r
complete -c rpub -n "__fish_rpub_using_subcommand index; and not __fish_seen_subcommand_from create add rm remove annotate inspect help" -l progress -d 'Show progress as auto, tty, plain, quiet or rawjson' -r -f -a "auto\t'Bars on a terminal, plain lines elsewhere'
tty\t'Bars'
plain\t'Numbered lines'
quiet\t'Nothing but warnings and errors'
rawjson\t'One JSON object a line, for programs'"
complete -c rpub -n "__fish_rpub_using_subcommand index; and not __fish_seen_subcommand_from create add rm remove annotate inspect help" -l insecure-registry -d 'Allow TLS with any certificate, or else plain HTTP, for this registry (repeatable)' -r
complete -c rpub -n "__fish_rpub_using_subcommand index; and not __fish_seen_subcommand_from create add rm remove annotate inspect help" -l plain-http -d 'Reach this registry by plain HTTP (repeatable)' -r
complete -c rpub -n "__fish_rpub_using_subcommand index; and not __fish_seen_subcommand_from create add rm remove annotate inspect help" -l skip-tls-verify -d 'Do not verify the certificate of this registry (repeatable)' -r
complete -c rpub -n "__fish_rpub_using_subcommand index; and not __fish_seen_subcommand_from create add rm remove annotate inspect help" -l ca-file -d 'Also trust the certificate authorities in this PEM file (repeatable)' -r -F
complete -c rpub -n "__fish_rpub_using_subcommand index; and not __fish_seen_subcommand_from create add rm remove annotate inspect help" -l cert-dir -d 'Use the authorities (*.crt) and client certificate (*.cert, *.key) in this directory' -r -F
complete -c rpub -n "__fish_rpub_using_subcommand index; and not __fish_seen_subcommand_from create add rm remove annotate inspect help" -l registries-conf -d 'Read mirrors from this file [default: containers/registries.conf in ~/.config or /etc]' -r -F
complete -c rpub -n "__fish_rpub_using_subcommand index; and not __fish_seen_subcommand_from create add rm remove annotate inspect help" -l retry-times -d 'Try a failed request so many times more [default: 4]' -r
complete -c rpub -n "__fish_rpub_using_subcommand index; and not __fish_seen_subcommand_from create add rm remove annotate inspect help" -l retry-delay -d 'Wait so long before the first retry, twice as long before each further one [default: 500ms]' -r
complete -c rpub -n "__fish_rpub_using_subcommand index; and not __fish_seen_subcommand_from create add rm remove annotate inspect help" -l max-wait -d 'Give up at once when a registry asks for a longer wait than this [default: 1m]' -r
complete -c rpub -n "__fish_rpub_using_subcommand index; and not __fish_seen_subcommand_from create add rm remove annotate inspect help" -l idle-timeout -d 'Break off when a registry does nothing for so long [default: 90s]' -r
complete -c rpub -n "__fish_rpub_using_subcommand index; and not __fish_seen_subcommand_from create add rm remove annotate inspect help" -l concurrency -d 'Move at most so many blobs at once each way [default: what the registry takes, up to 16]' -r
complete -c rpub -n "__fish_rpub_using_subcommand index; and not __fish_seen_subcommand_from create add rm remove annotate inspect help" -l limit-rate -d 'Move at most so many bytes a second, both ways together, as in 5MB' -r
complete -c rpub -n "__fish_rpub_using_subcommand index; and not __fish_seen_subcommand_from create add rm remove annotate inspect help" -l resolve -d 'Connect to this address for a registry\'s host and port (repeatable)' -r
complete -c rpub -n "__fish_rpub_using_subcommand index; and not __fish_seen_subcommand_from create add rm remove annotate inspect help" -l http-header -d 'Send this header to registries; @FILE reads lines from a file (repeatable)' -r
complete -c rpub -n "__fish_rpub_using_subcommand index; and not __fish_seen_subcommand_from create add rm remove annotate inspect help" -l user-agent-prefix -d 'Put this text before rpub\'s own in the user agent' -r
complete -c rpub -n "__fish_rpub_using_subcommand index; and not __fish_seen_subcommand_from create add rm remove annotate inspect help" -l authfile -d 'Look for logins in this file only; login and logout change it' -r -F
complete -c rpub -n "__fish_rpub_using_subcommand index; and not __fish_seen_subcommand_from create add rm remove annotate inspect help" -l src-authfile -d 'Look for logins for what is read from registries in this file only' -r -F
complete -c rpub -n "__fish_rpub_using_subcommand index; and not __fish_seen_subcommand_from create add rm remove annotate inspect help" -l dest-authfile -d 'Look for logins for what is written to registries in this file only' -r -F
complete -c rpub -n "__fish_rpub_using_subcommand index; and not __fish_seen_subcommand_from create add rm remove annotate inspect help" -l registry-token-file -d 'Send the bearer token in this file to this registry (repeatable)' -r
complete -c rpub -n "__fish_rpub_using_subcommand index; and not __fish_seen_subcommand_from create add rm remove annotate inspect help" -s q -l quiet -d 'Show no progress, print only the result'
complete -c rpub -n "__fish_rpub_using_subcommand index; and not __fish_seen_subcommand_from create add rm remove annotate inspect help" -l offline -d 'Open no connection to anybody: what is here counts, as it was last seen'
complete -c rpub -n "__fish_rpub_using_subcommand index; and not __fish_seen_subcommand_from create add rm remove annotate inspect help" -s h -l help -d 'Print help'
complete -c rpub -n "__fish_rpub_using_subcommand index; and not __fish_seen_subcommand_from create add rm remove annotate inspect help" -f -a "create" -d 'Make an index of images, which may be in other registries'
complete -c rpub -n "__fish_rpub_using_subcommand index; and not __fish_seen_subcommand_from create add rm remove annotate inspect help" -f -a "add" -d 'Add images to an index'
complete -c rpub -n "__fish_rpub_using_subcommand index; and not __fish_seen_subcommand_from create add rm remove annotate inspect help" -f -a "rm" -d 'Take images out of an index'
complete -c rpub -n "__fish_rpub_using_subcommand index; and not __fish_seen_subcommand_from create add rm remove annotate inspect help" -f -a "remove" -d 'Take images out of an index'
complete -c rpub -n "__fish_rpub_using_subcommand index; and not __fish_seen_subcommand_from create add rm remove annotate inspect help" -f -a "annotate" -d 'Annotate an index or its entries'
complete -c rpub -n "__fish_rpub_using_subcommand index; and not __fish_seen_subcommand_from create add rm remove annotate inspect help" -f -a "inspect" -d 'Show an index'
complete -c rpub -n "__fish_rpub_using_subcommand index; and not __fish_seen_subcommand_from create add rm remove annotate inspect help" -f -a "help" -d 'Print this message or the help of the given subcommand(s)'
complete -c rpub -n "__fish_rpub_using_subcommand index; and __fish_seen_subcommand_from create" -s f -l file -d 'Read a source from a file: a reference, or a descriptor in JSON (repeatable)' -r -F
complete -c rpub -n "__fish_rpub_using_subcommand index; and __fish_seen_subcommand_from create" -s a -l annotation -d 'Annotate the index or its entries (repeatable)' -r
complete -c rpub -n "__fish_rpub_using_subcommand index; and __fish_seen_subcommand_from create" -l prefer-index -d 'Make an index of a single image, too' -r -f -a "true\t'A single image becomes an index of one'
false\t'A single image stays one'"
complete -c rpub -n "__fish_rpub_using_subcommand index; and __fish_seen_subcommand_from create" -l metadata-file -d 'Write the result\'s descriptor to this file, as JSON' -r -F
complete -c rpub -n "__fish_rpub_using_subcommand index; and __fish_seen_subcommand_from create" -s t -l tag -d 'Give the result this name and leave the image as it is [default: edit in place] (repeatable)' -r
complete -c rpub -n "__fish_rpub_using_subcommand index; and __fish_seen_subcommand_from create" -s p -l platform -d 'Of an index, take only the images for this platform (repeatable)' -r
complete -c rpub -n "__fish_rpub_using_subcommand index; and __fish_seen_subcommand_from create" -l format -d 'Print json, the template given, or with table before it a table: \'table {{.ID}}\'' -r
complete -c rpub -n "__fish_rpub_using_subcommand index; and __fish_seen_subcommand_from create" -l store -d 'Keep images, layers and the build cache here [default: ~/.local/share/rpub]' -r -F
complete -c rpub -n "__fish_rpub_using_subcommand index; and __fish_seen_subcommand_from create" -l cache-size -d 'Keep the build cache within this size [default: a fifth of the disk, 10 to 100 GiB]' -r
complete -c rpub -n "__fish_rpub_using_subcommand index; and __fish_seen_subcommand_from create" -l progress -d 'Show progress as auto, tty, plain, quiet or rawjson' -r -f -a "auto\t'Bars on a terminal, plain lines elsewhere'
tty\t'Bars'
plain\t'Numbered lines'
quiet\t'Nothing but warnings and errors'
rawjson\t'One JSON object a line, for programs'"
complete -c rpub -n "__fish_rpub_using_subcommand index; and __fish_seen_subcommand_from create" -l insecure-registry -d 'Allow TLS with any certificate, or else plain HTTP, for this registry (repeatable)' -r
complete -c rpub -n "__fish_rpub_using_subcommand index; and __fish_seen_subcommand_from create" -l plain-http -d 'Reach this registry by plain HTTP (repeatable)' -r
complete -c rpub -n "__fish_rpub_using_subcommand index; and __fish_seen_subcommand_from create" -l skip-tls-verify -d 'Do not verify the certificate of this registry (repeatable)' -r
complete -c rpub -n "__fish_rpub_using_subcommand index; and __fish_seen_subcommand_from create" -l ca-file -d 'Also trust the certificate authorities in this PEM file (repeatable)' -r -F
complete -c rpub -n "__fish_rpub_using_subcommand index; and __fish_seen_subcommand_from create" -l cert-dir -d 'Use the authorities (*.crt) and client certificate (*.cert, *.key) in this directory' -r -F
complete -c rpub -n "__fish_rpub_using_subcommand index; and __fish_seen_subcommand_from create" -l registries-conf -d 'Read mirrors from this file [default: containers/registries.conf in ~/.config or /etc]' -r -F
complete -c rpub -n "__fish_rpub_using_subcommand index; and __fish_seen_subcommand_from create" -l retry-times -d 'Try a failed request so many times more [default: 4]' -r
complete -c rpub -n "__fish_rpub_using_subcommand index; and __fish_seen_subcommand_from create" -l retry-delay -d 'Wait so long before the first retry, twice as long before each further one [default: 500ms]' -r
complete -c rpub -n "__fish_rpub_using_subcommand index; and __fish_seen_subcommand_from create" -l max-wait -d 'Give up at once when a registry asks for a longer wait than this [default: 1m]' -r
complete -c rpub -n "__fish_rpub_using_subcommand index; and __fish_seen_subcommand_from create" -l idle-timeout -d 'Break off when a registry does nothing for so long [default: 90s]' -r
complete -c rpub -n "__fish_rpub_using_subcommand index; and __fish_seen_subcommand_from create" -l concurrency -d 'Move at most so many blobs at once each way [default: what the registry takes, up to 16]' -r
complete -c rpub -n "__fish_rpub_using_subcommand index; and __fish_seen_subcommand_from create" -l limit-rate -d 'Move at most so many bytes a second, both ways together, as in 5MB' -r
complete -c rpub -n "__fish_rpub_using_subcommand index; and __fish_seen_subcommand_from create" -l resolve -d 'Connect to this address for a registry\'s host and port (repeatable)' -r
complete -c rpub -n "__fish_rpub_using_subcommand index; and __fish_seen_subcommand_from create" -l http-header -d 'Send this header to registries; @FILE reads lines from a file (repeatable)' -r
complete -c rpub -n "__fish_rpub_using_subcommand index; and __fish_seen_subcommand_from create" -l user-agent-prefix -d 'Put this text before rpub\'s own in the user agent' -r
complete -c rpub -n "__fish_rpub_using_subcommand index; and __fish_seen_subcommand_from create" -l authfile -d 'Look for logins in this file only; login and logout change it' -r -F
complete -c rpub -n "__fish_rpub_using_subcommand index; and __fish_seen_subcommand_from create" -l src-authfile -d 'Look for logins for what is read from registries in this file only' -r -F
complete -c rpub -n "__fish_rpub_using_subcommand index; and __fish_seen_subcommand_from create" -l dest-authfile -d 'Look for logins for what is written to registries in this file only' -r -F
complete -c rpub -n "__fish_rpub_using_subcommand index; and __fish_seen_subcommand_from create" -l registry-token-file -d 'Send the bearer token in this file to this registry (repeatable)' -r
complete -c rpub -n "__fish_rpub_using_subcommand index; and __fish_seen_subcommand_from create" -l append -d 'Add to what the name stands for, if anything'
complete -c rpub -n "__fish_rpub_using_subcommand index; and __fish_seen_subcommand_from create" -l local -d 'Work on what is in the store instead of a registry'
complete -c rpub -n "__fish_rpub_using_subcommand index; and __fish_seen_subcommand_from create" -l dry-run -d 'Print the manifest that would be made, and push nothing'
complete -c rpub -n "__fish_rpub_using_subcommand index; and __fish_seen_subcommand_from create" -s q -l quiet -d 'Show no progress, print only the result'
complete -c rpub -n "__fish_rpub_using_subcommand index; and __fish_seen_subcommand_from create" -l offline -d 'Open no connection to anybody: what is here counts, as it was last seen'
complete -c rpub -n "__fish_rpub_using_subcommand index; and __fish_seen_subcommand_from create" -s h -l help -d 'Print help'
complete -c rpub -n "__fish_rpub_using_subcommand index; and __fish_seen_subcommand_from add" -s a -l annotation -d 'Annotate the index or its entries (repeatable)' -r
complete -c rpub -n "__fish_rpub_using_subcommand index; and __fish_seen_subcommand_from add" -s t -l tag -d 'Give the result this name and leave the image as it is [default: edit in place] (repeatable)' -r
complete -c rpub -n "__fish_rpub_using_subcommand index; and __fish_seen_subcommand_from add" -s p -l platform -d 'Of an index, take only the images for this platform (repeatable)' -r
complete -c rpub -n "__fish_rpub_using_subcommand index; and __fish_seen_subcommand_from add" -l format -d 'Print json, the template given, or with table before it a table: \'table {{.ID}}\'' -r
complete -c rpub -n "__fish_rpub_using_subcommand index; and __fish_seen_subcommand_from add" -l store -d 'Keep images, layers and the build cache here [default: ~/.local/share/rpub]' -r -F
complete -c rpub -n "__fish_rpub_using_subcommand index; and __fish_seen_subcommand_from add" -l cache-size -d 'Keep the build cache within this size [default: a fifth of the disk, 10 to 100 GiB]' -r
complete -c rpub -n "__fish_rpub_using_subcommand index; and __fish_seen_subcommand_from add" -l progress -d 'Show progress as auto, tty, plain, quiet or rawjson' -r -f -a "auto\t'Bars on a terminal, plain lines elsewhere'
tty\t'Bars'
plain\t'Numbered lines'
quiet\t'Nothing but warnings and errors'
rawjson\t'One JSON object a line, for programs'"
complete -c rpub -n "__fish_rpub_using_subcommand index; and __fish_seen_subcommand_from add" -l insecure-registry -d 'Allow TLS with any certificate, or else plain HTTP, for this registry (repeatable)' -r
complete -c rpub -n "__fish_rpub_using_subcommand index; and __fish_seen_subcommand_from add" -l plain-http -d 'Reach this registry by plain HTTP (repeatable)' -r
complete -c rpub -n "__fish_rpub_using_subcommand index; and __fish_seen_subcommand_from add" -l skip-tls-verify -d 'Do not verify the certificate of this registry (repeatable)' -r
complete -c rpub -n "__fish_rpub_using_subcommand index; and __fish_seen_subcommand_from add" -l ca-file -d 'Also trust the certificate authorities in this PEM file (repeatable)' -r -F
complete -c rpub -n "__fish_rpub_using_subcommand index; and __fish_seen_subcommand_from add" -l cert-dir -d 'Use the authorities (*.crt) and client certificate (*.cert, *.key) in this directory' -r -F
complete -c rpub -n "__fish_rpub_using_subcommand index; and __fish_seen_subcommand_from add" -l registries-conf -d 'Read mirrors from this file [default: containers/registries.conf in ~/.config or /etc]' -r -F
complete -c rpub -n "__fish_rpub_using_subcommand index; and __fish_seen_subcommand_from add" -l retry-times -d 'Try a failed request so many times more [default: 4]' -r
complete -c rpub -n "__fish_rpub_using_subcommand index; and __fish_seen_subcommand_from add" -l retry-delay -d 'Wait so long before the first retry, twice as long before each further one [default: 500ms]' -r
complete -c rpub -n "__fish_rpub_using_subcommand index; and __fish_seen_subcommand_from add" -l max-wait -d 'Give up at once when a registry asks for a longer wait than this [default: 1m]' -r
complete -c rpub -n "__fish_rpub_using_subcommand index; and __fish_seen_subcommand_from add" -l idle-timeout -d 'Break off when a registry does nothing for so long [default: 90s]' -r
complete -c rpub -n "__fish_rpub_using_subcommand index; and __fish_seen_subcommand_from add" -l concurrency -d 'Move at most so many blobs at once each way [default: what the registry takes, up to 16]' -r
complete -c rpub -n "__fish_rpub_using_subcommand index; and __fish_seen_subcommand_from add" -l limit-rate -d 'Move at most so many bytes a second, both ways together, as in 5MB' -r
complete -c rpub -n "__fish_rpub_using_subcommand index; and __fish_seen_subcommand_from add" -l resolve -d 'Connect to this address for a registry\'s host and port (repeatable)' -r
complete -c rpub -n "__fish_rpub_using_subcommand index; and __fish_seen_subcommand_from add" -l http-header -d 'Send this header to registries; @FILE reads lines from a file (repeatable)' -r
complete -c rpub -n "__fish_rpub_using_subcommand index; and __fish_seen_subcommand_from add" -l user-agent-prefix -d 'Put this text before rpub\'s own in the user agent' -r
complete -c rpub -n "__fish_rpub_using_subcommand index; and __fish_seen_subcommand_from add" -l authfile -d 'Look for logins in this file only; login and logout change it' -r -F
complete -c rpub -n "__fish_rpub_using_subcommand index; and __fish_seen_subcommand_from add" -l src-authfile -d 'Look for logins for what is read from registries in this file only' -r -F
complete -c rpub -n "__fish_rpub_using_subcommand index; and __fish_seen_subcommand_from add" -l dest-authfile -d 'Look for logins for what is written to registries in this file only' -r -F
complete -c rpub -n "__fish_rpub_using_subcommand index; and __fish_seen_subcommand_from add" -l registry-token-file -d 'Send the bearer token in this file to this registry (repeatable)' -r
complete -c rpub -n "__fish_rpub_using_subcommand index; and __fish_seen_subcommand_from add" -l local -d 'Work on what is in the store instead of a registry'
complete -c rpub -n "__fish_rpub_using_subcommand index; and __fish_seen_subcommand_from add" -l dry-run -d 'Print the manifest that would be made, and push nothing'
complete -c rpub -n "__fish_rpub_using_subcommand index; and __fish_seen_subcommand_from add" -s q -l quiet -d 'Show no progress, print only the result'
complete -c rpub -n "__fish_rpub_using_subcommand index; and __fish_seen_subcommand_from add" -l offline -d 'Open no connection to anybody: what is here counts, as it was last seen'
complete -c rpub -n "__fish_rpub_using_subcommand index; and __fish_seen_subcommand_from add" -s h -l help -d 'Print help'
complete -c rpub -n "__fish_rpub_using_subcommand index; and __fish_seen_subcommand_from rm" -s t -l tag -d 'Give the result this name and leave the index as it is [default: edit in place] (repeatable)' -r
complete -c rpub -n "__fish_rpub_using_subcommand index; and __fish_seen_subcommand_from rm" -l format -d 'Print json, the template given, or with table before it a table: \'table {{.ID}}\'' -r
complete -c rpub -n "__fish_rpub_using_subcommand index; and __fish_seen_subcommand_from rm" -l store -d 'Keep images, layers and the build cache here [default: ~/.local/share/rpub]' -r -F
complete -c rpub -n "__fish_rpub_using_subcommand index; and __fish_seen_subcommand_from rm" -l cache-size -d 'Keep the build cache within this size [default: a fifth of the disk, 10 to 100 GiB]' -r
complete -c rpub -n "__fish_rpub_using_subcommand index; and __fish_seen_subcommand_from rm" -l progress -d 'Show progress as auto, tty, plain, quiet or rawjson' -r -f -a "auto\t'Bars on a terminal, plain lines elsewhere'
tty\t'Bars'
plain\t'Numbered lines'
quiet\t'Nothing but warnings and errors'
rawjson\t'One JSON object a line, for programs'"
complete -c rpub -n "__fish_rpub_using_subcommand index; and __fish_seen_subcommand_from rm" -l insecure-registry -d 'Allow TLS with any certificate, or else plain HTTP, for this registry (repeatable)' -r
complete -c rpub -n "__fish_rpub_using_subcommand index; and __fish_seen_subcommand_from rm" -l plain-http -d 'Reach this registry by plain HTTP (repeatable)' -r
complete -c rpub -n "__fish_rpub_using_subcommand index; and __fish_seen_subcommand_from rm" -l skip-tls-verify -d 'Do not verify the certificate of this registry (repeatable)' -r
complete -c rpub -n "__fish_rpub_using_subcommand index; and __fish_seen_subcommand_from rm" -l ca-file -d 'Also trust the certificate authorities in this PEM file (repeatable)' -r -F
complete -c rpub -n "__fish_rpub_using_subcommand index; and __fish_seen_subcommand_from rm" -l cert-dir -d 'Use the authorities (*.crt) and client certificate (*.cert, *.key) in this directory' -r -F
complete -c rpub -n "__fish_rpub_using_subcommand index; and __fish_seen_subcommand_from rm" -l registries-conf -d 'Read mirrors from this file [default: containers/registries.conf in ~/.config or /etc]' -r -F
complete -c rpub -n "__fish_rpub_using_subcommand index; and __fish_seen_subcommand_from rm" -l retry-times -d 'Try a failed request so many times more [default: 4]' -r
complete -c rpub -n "__fish_rpub_using_subcommand index; and __fish_seen_subcommand_from rm" -l retry-delay -d 'Wait so long before the first retry, twice as long before each further one [default: 500ms]' -r
complete -c rpub -n "__fish_rpub_using_subcommand index; and __fish_seen_subcommand_from rm" -l max-wait -d 'Give up at once when a registry asks for a longer wait than this [default: 1m]' -r
complete -c rpub -n "__fish_rpub_using_subcommand index; and __fish_seen_subcommand_from rm" -l idle-timeout -d 'Break off when a registry does nothing for so long [default: 90s]' -r
complete -c rpub -n "__fish_rpub_using_subcommand index; and __fish_seen_subcommand_from rm" -l concurrency -d 'Move at most so many blobs at once each way [default: what the registry takes, up to 16]' -r
complete -c rpub -n "__fish_rpub_using_subcommand index; and __fish_seen_subcommand_from rm" -l limit-rate -d 'Move at most so many bytes a second, both ways together, as in 5MB' -r
complete -c rpub -n "__fish_rpub_using_subcommand index; and __fish_seen_subcommand_from rm" -l resolve -d 'Connect to this address for a registry\'s host and port (repeatable)' -r
complete -c rpub -n "__fish_rpub_using_subcommand index; and __fish_seen_subcommand_from rm" -l http-header -d 'Send this header to registries; @FILE reads lines from a file (repeatable)' -r
complete -c rpub -n "__fish_rpub_using_subcommand index; and __fish_seen_subcommand_from rm" -l user-agent-prefix -d 'Put this text before rpub\'s own in the user agent' -r
complete -c rpub -n "__fish_rpub_using_subcommand index; and __fish_seen_subcommand_from rm" -l authfile -d 'Look for logins in this file only; login and logout change it' -r -F
complete -c rpub -n "__fish_rpub_using_subcommand index; and __fish_seen_subcommand_from rm" -l src-authfile -d 'Look for logins for what is read from registries in this file only' -r -F
complete -c rpub -n "__fish_rpub_using_subcommand index; and __fish_seen_subcommand_from rm" -l dest-authfile -d 'Look for logins for what is written to registries in this file only' -r -F
complete -c rpub -n "__fish_rpub_using_subcommand index; and __fish_seen_subcommand_from rm" -l registry-token-file -d 'Send the bearer token in this file to this registry (repeatable)' -r
complete -c rpub -n "__fish_rpub_using_subcommand index; and __fish_seen_subcommand_from rm" -l local -d 'Work on what is in the store instead of a registry'
complete -c rpub -n "__fish_rpub_using_subcommand index; and __fish_seen_subcommand_from rm" -l dry-run -d 'Print the manifest that would be made, and push nothing'
complete -c rpub -n "__fish_rpub_using_subcommand index; and __fish_seen_subcommand_from rm" -s q -l quiet -d 'Show no progress, print only the result'
complete -c rpub -n "__fish_rpub_using_subcommand index; and __fish_seen_subcommand_from rm" -l offline -d 'Open no connection to anybody: what is here counts, as it was last seen'
complete -c rpub -n "__fish_rpub_using_subcommand index; and __fish_seen_subcommand_from rm" -s h -l help -d 'Print help'
complete -c rpub -n "__fish_rpub_using_subcommand index; and __fish_seen_subcommand_from remove" -s t -l tag -d 'Give the result this name and leave the index as it is [default: edit in place] (repeatable)' -r
complete -c rpub -n "__fish_rpub_using_subcommand index; and __fish_seen_subcommand_from remove" -l format -d 'Print json, the template given, or with table before it a table: \'table {{.ID}}\'' -r
complete -c rpub -n "__fish_rpub_using_subcommand index; and __fish_seen_subcommand_from remove" -l store -d 'Keep images, layers and the build cache here [default: ~/.local/share/rpub]' -r -F
complete -c rpub -n "__fish_rpub_using_subcommand index; and __fish_seen_subcommand_from remove" -l cache-size -d 'Keep the build cache within this size [default: a fifth of the disk, 10 to 100 GiB]' -r
complete -c rpub -n "__fish_rpub_using_subcommand index; and __fish_seen_subcommand_from remove" -l progress -d 'Show progress as auto, tty, plain, quiet or rawjson' -r -f -a "auto\t'Bars on a terminal, plain lines elsewhere'
tty\t'Bars'
plain\t'Numbered lines'
quiet\t'Nothing but warnings and errors'
rawjson\t'One JSON object a line, for programs'"
complete -c rpub -n "__fish_rpub_using_subcommand index; and __fish_seen_subcommand_from remove" -l insecure-registry -d 'Allow TLS with any certificate, or else plain HTTP, for this registry (repeatable)' -r
complete -c rpub -n "__fish_rpub_using_subcommand index; and __fish_seen_subcommand_from remove" -l plain-http -d 'Reach this registry by plain HTTP (repeatable)' -r
complete -c rpub -n "__fish_rpub_using_subcommand index; and __fish_seen_subcommand_from remove" -l skip-tls-verify -d 'Do not verify the certificate of this registry (repeatable)' -r
complete -c rpub -n "__fish_rpub_using_subcommand index; and __fish_seen_subcommand_from remove" -l ca-file -d 'Also trust the certificate authorities in this PEM file (repeatable)' -r -F
complete -c rpub -n "__fish_rpub_using_subcommand index; and __fish_seen_subcommand_from remove" -l cert-dir -d 'Use the authorities (*.crt) and client certificate (*.cert, *.key) in this directory' -r -F
complete -c rpub -n "__fish_rpub_using_subcommand index; and __fish_seen_subcommand_from remove" -l registries-conf -d 'Read mirrors from this file [default: containers/registries.conf in ~/.config or /etc]' -r -F
complete -c rpub -n "__fish_rpub_using_subcommand index; and __fish_seen_subcommand_from remove" -l retry-times -d 'Try a failed request so many times more [default: 4]' -r
complete -c rpub -n "__fish_rpub_using_subcommand index; and __fish_seen_subcommand_from remove" -l retry-delay -d 'Wait so long before the first retry, twice as long before each further one [default: 500ms]' -r
complete -c rpub -n "__fish_rpub_using_subcommand index; and __fish_seen_subcommand_from remove" -l max-wait -d 'Give up at once when a registry asks for a longer wait than this [default: 1m]' -r
complete -c rpub -n "__fish_rpub_using_subcommand index; and __fish_seen_subcommand_from remove" -l idle-timeout -d 'Break off when a registry does nothing for so long [default: 90s]' -r
complete -c rpub -n "__fish_rpub_using_subcommand index; and __fish_seen_subcommand_from remove" -l concurrency -d 'Move at most so many blobs at once each way [default: what the registry takes, up to 16]' -r
complete -c rpub -n "__fish_rpub_using_subcommand index; and __fish_seen_subcommand_from remove" -l limit-rate -d 'Move at most so many bytes a second, both ways together, as in 5MB' -r
complete -c rpub -n "__fish_rpub_using_subcommand index; and __fish_seen_subcommand_from remove" -l resolve -d 'Connect to this address for a registry\'s host and port (repeatable)' -r
complete -c rpub -n "__fish_rpub_using_subcommand index; and __fish_seen_subcommand_from remove" -l http-header -d 'Send this header to registries; @FILE reads lines from a file (repeatable)' -r
complete -c rpub -n "__fish_rpub_using_subcommand index; and __fish_seen_subcommand_from remove" -l user-agent-prefix -d 'Put this text before rpub\'s own in the user agent' -r
complete -c rpub -n "__fish_rpub_using_subcommand index; and __fish_seen_subcommand_from remove" -l authfile -d 'Look for logins in this file only; login and logout change it' -r -F
complete -c rpub -n "__fish_rpub_using_subcommand index; and __fish_seen_subcommand_from remove" -l src-authfile -d 'Look for logins for what is read from registries in this file only' -r -F
complete -c rpub -n "__fish_rpub_using_subcommand index; and __fish_seen_subcommand_from remove" -l dest-authfile -d 'Look for logins for what is written to registries in this file only' -r -F
complete -c rpub -n "__fish_rpub_using_subcommand index; and __fish_seen_subcommand_from remove" -l registry-token-file -d 'Send the bearer token in this file to this registry (repeatable)' -r
complete -c rpub -n "__fish_rpub_using_subcommand index; and __fish_seen_subcommand_from remove" -l local -d 'Work on what is in the store instead of a registry'
complete -c rpub -n "__fish_rpub_using_subcommand index; and __fish_seen_subcommand_from remove" -l dry-run -d 'Print the manifest that would be made, and push nothing'
complete -c rpub -n "__fish_rpub_using_subcommand index; and __fish_seen_subcommand_from remove" -s q -l quiet -d 'Show no progress, print only the result'
complete -c rpub -n "__fish_rpub_using_subcommand index; and __fish_seen_subcommand_from remove" -l offline -d 'Open no connection to anybody: what is here counts, as it was last seen'
complete -c rpub -n "__fish_rpub_using_subcommand index; and __fish_seen_subcommand_from remove" -s h -l help -d 'Print help'
complete -c rpub -n "__fish_rpub_using_subcommand index; and __fish_seen_subcommand_from annotate" -s a -l annotation -d 'Set an annotation (repeatable)' -r
complete -c rpub -n "__fish_rpub_using_subcommand index; and __fish_seen_subcommand_from annotate" -l unset-annotation -d 'Remove an annotation (repeatable)' -r
complete -c rpub -n "__fish_rpub_using_subcommand index; and __fish_seen_subcommand_from annotate" -s t -l tag -d 'Give the result this name and leave the index as it is [default: edit in place] (repeatable)' -r
complete -c rpub -n "__fish_rpub_using_subcommand index; and __fish_seen_subcommand_from annotate" -l format -d 'Print json, the template given, or with table before it a table: \'table {{.ID}}\'' -r
complete -c rpub -n "__fish_rpub_using_subcommand index; and __fish_seen_subcommand_from annotate" -l store -d 'Keep images, layers and the build cache here [default: ~/.local/share/rpub]' -r -F
complete -c rpub -n "__fish_rpub_using_subcommand index; and __fish_seen_subcommand_from annotate" -l cache-size -d 'Keep the build cache within this size [default: a fifth of the disk, 10 to 100 GiB]' -r
complete -c rpub -n "__fish_rpub_using_subcommand index; and __fish_seen_subcommand_from annotate" -l progress -d 'Show progress as auto, tty, plain, quiet or rawjson' -r -f -a "auto\t'Bars on a terminal, plain lines elsewhere'
tty\t'Bars'
plain\t'Numbered lines'
quiet\t'Nothing but warnings and errors'
rawjson\t'One JSON object a line, for programs'"
complete -c rpub -n "__fish_rpub_using_subcommand index; and __fish_seen_subcommand_from annotate" -l insecure-registry -d 'Allow TLS with any certificate, or else plain HTTP, for this registry (repeatable)' -r
complete -c rpub -n "__fish_rpub_using_subcommand index; and __fish_seen_subcommand_from annotate" -l plain-http -d 'Reach this registry by plain HTTP (repeatable)' -r
complete -c rpub -n "__fish_rpub_using_subcommand index; and __fish_seen_subcommand_from annotate" -l skip-tls-verify -d 'Do not verify the certificate of this registry (repeatable)' -r
complete -c rpub -n "__fish_rpub_using_subcommand index; and __fish_seen_subcommand_from annotate" -l ca-file -d 'Also trust the certificate authorities in this PEM file (repeatable)' -r -F
complete -c rpub -n "__fish_rpub_using_subcommand index; and __fish_seen_subcommand_from annotate" -l cert-dir -d 'Use the authorities (*.crt) and client certificate (*.cert, *.key) in this directory' -r -F
complete -c rpub -n "__fish_rpub_using_subcommand index; and __fish_seen_subcommand_from annotate" -l registries-conf -d 'Read mirrors from this file [default: containers/registries.conf in ~/.config or /etc]' -r -F
complete -c rpub -n "__fish_rpub_using_subcommand index; and __fish_seen_subcommand_from annotate" -l retry-times -d 'Try a failed request so many times more [default: 4]' -r
complete -c rpub -n "__fish_rpub_using_subcommand index; and __fish_seen_subcommand_from annotate" -l retry-delay -d 'Wait so long before the first retry, twice as long before each further one [default: 500ms]' -r
complete -c rpub -n "__fish_rpub_using_subcommand index; and __fish_seen_subcommand_from annotate" -l max-wait -d 'Give up at once when a registry asks for a longer wait than this [default: 1m]' -r
complete -c rpub -n "__fish_rpub_using_subcommand index; and __fish_seen_subcommand_from annotate" -l idle-timeout -d 'Break off when a registry does nothing for so long [default: 90s]' -r
complete -c rpub -n "__fish_rpub_using_subcommand index; and __fish_seen_subcommand_from annotate" -l concurrency -d 'Move at most so many blobs at once each way [default: what the registry takes, up to 16]' -r
complete -c rpub -n "__fish_rpub_using_subcommand index; and __fish_seen_subcommand_from annotate" -l limit-rate -d 'Move at most so many bytes a second, both ways together, as in 5MB' -r
complete -c rpub -n "__fish_rpub_using_subcommand index; and __fish_seen_subcommand_from annotate" -l resolve -d 'Connect to this address for a registry\'s host and port (repeatable)' -r
complete -c rpub -n "__fish_rpub_using_subcommand index; and __fish_seen_subcommand_from annotate" -l http-header -d 'Send this header to registries; @FILE reads lines from a file (repeatable)' -r
complete -c rpub -n "__fish_rpub_using_subcommand index; and __fish_seen_subcommand_from annotate" -l user-agent-prefix -d 'Put this text before rpub\'s own in the user agent' -r
complete -c rpub -n "__fish_rpub_using_subcommand index; and __fish_seen_subcommand_from annotate" -l authfile -d 'Look for logins in this file only; login and logout change it' -r -F
complete -c rpub -n "__fish_rpub_using_subcommand index; and __fish_seen_subcommand_from annotate" -l src-authfile -d 'Look for logins for what is read from registries in this file only' -r -F
complete -c rpub -n "__fish_rpub_using_subcommand index; and __fish_seen_subcommand_from annotate" -l dest-authfile -d 'Look for logins for what is written to registries in this file only' -r -F
complete -c rpub -n "__fish_rpub_using_subcommand index; and __fish_seen_subcommand_from annotate" -l registry-token-file -d 'Send the bearer token in this file to this registry (repeatable)' -r
complete -c rpub -n "__fish_rpub_using_subcommand index; and __fish_seen_subcommand_from annotate" -l local -d 'Work on what is in the store instead of a registry'
complete -c rpub -n "__fish_rpub_using_subcommand index; and __fish_seen_subcommand_from annotate" -l dry-run -d 'Print the manifest that would be made, and push nothing'
complete -c rpub -n "__fish_rpub_using_subcommand index; and __fish_seen_subcommand_from annotate" -s q -l quiet -d 'Show no progress, print only the result'
complete -c rpub -n "__fish_rpub_using_subcommand index; and __fish_seen_subcommand_from annotate" -l offline -d 'Open no connection to anybody: what is here counts, as it was last seen'
complete -c rpub -n "__fish_rpub_using_subcommand index; and __fish_seen_subcommand_from annotate" -s h -l help -d 'Print help'
complete -c rpub -n "__fish_rpub_using_subcommand index; and __fish_seen_subcommand_from inspect" -l format -d 'Print json, the template given, or with table before it a table: \'table {{.ID}}\'' -r
complete -c rpub -n "__fish_rpub_using_subcommand index; and __fish_seen_subcommand_from inspect" -l store -d 'Keep images, layers and the build cache here [default: ~/.local/share/rpub]' -r -F
complete -c rpub -n "__fish_rpub_using_subcommand index; and __fish_seen_subcommand_from inspect" -l cache-size -d 'Keep the build cache within this size [default: a fifth of the disk, 10 to 100 GiB]' -r
complete -c rpub -n "__fish_rpub_using_subcommand index; and __fish_seen_subcommand_from inspect" -l progress -d 'Show progress as auto, tty, plain, quiet or rawjson' -r -f -a "auto\t'Bars on a terminal, plain lines elsewhere'
tty\t'Bars'
plain\t'Numbered lines'
quiet\t'Nothing but warnings and errors'
rawjson\t'One JSON object a line, for programs'"
complete -c rpub -n "__fish_rpub_using_subcommand index; and __fish_seen_subcommand_from inspect" -l insecure-registry -d 'Allow TLS with any certificate, or else plain HTTP, for this registry (repeatable)' -r
complete -c rpub -n "__fish_rpub_using_subcommand index; and __fish_seen_subcommand_from inspect" -l plain-http -d 'Reach this registry by plain HTTP (repeatable)' -r
complete -c rpub -n "__fish_rpub_using_subcommand index; and __fish_seen_subcommand_from inspect" -l skip-tls-verify -d 'Do not verify the certificate of this registry (repeatable)' -r
complete -c rpub -n "__fish_rpub_using_subcommand index; and __fish_seen_subcommand_from inspect" -l ca-file -d 'Also trust the certificate authorities in this PEM file (repeatable)' -r -F
complete -c rpub -n "__fish_rpub_using_subcommand index; and __fish_seen_subcommand_from inspect" -l cert-dir -d 'Use the authorities (*.crt) and client certificate (*.cert, *.key) in this directory' -r -F
complete -c rpub -n "__fish_rpub_using_subcommand index; and __fish_seen_subcommand_from inspect" -l registries-conf -d 'Read mirrors from this file [default: containers/registries.conf in ~/.config or /etc]' -r -F
complete -c rpub -n "__fish_rpub_using_subcommand index; and __fish_seen_subcommand_from inspect" -l retry-times -d 'Try a failed request so many times more [default: 4]' -r
complete -c rpub -n "__fish_rpub_using_subcommand index; and __fish_seen_subcommand_from inspect" -l retry-delay -d 'Wait so long before the first retry, twice as long before each further one [default: 500ms]' -r
complete -c rpub -n "__fish_rpub_using_subcommand index; and __fish_seen_subcommand_from inspect" -l max-wait -d 'Give up at once when a registry asks for a longer wait than this [default: 1m]' -r
complete -c rpub -n "__fish_rpub_using_subcommand index; and __fish_seen_subcommand_from inspect" -l idle-timeout -d 'Break off when a registry does nothing for so long [default: 90s]' -r
complete -c rpub -n "__fish_rpub_using_subcommand index; and __fish_seen_subcommand_from inspect" -l concurrency -d 'Move at most so many blobs at once each way [default: what the registry takes, up to 16]' -r
complete -c rpub -n "__fish_rpub_using_subcommand index; and __fish_seen_subcommand_from inspect" -l limit-rate -d 'Move at most so many bytes a second, both ways together, as in 5MB' -r
complete -c rpub -n "__fish_rpub_using_subcommand index; and __fish_seen_subcommand_from inspect" -l resolve -d 'Connect to this address for a registry\'s host and port (repeatable)' -r
complete -c rpub -n "__fish_rpub_using_subcommand index; and __fish_seen_subcommand_from inspect" -l http-header -d 'Send this header to registries; @FILE reads lines from a file (repeatable)' -r
complete -c rpub -n "__fish_rpub_using_subcommand index; and __fish_seen_subcommand_from inspect" -l user-agent-prefix -d 'Put this text before rpub\'s own in the user agent' -r
complete -c rpub -n "__fish_rpub_using_subcommand index; and __fish_seen_subcommand_from inspect" -l authfile -d 'Look for logins in this file only; login and logout change it' -r -F
complete -c rpub -n "__fish_rpub_using_subcommand index; and __fish_seen_subcommand_from inspect" -l src-authfile -d 'Look for logins for what is read from registries in this file only' -r -F
complete -c rpub -n "__fish_rpub_using_subcommand index; and __fish_seen_subcommand_from inspect" -l dest-authfile -d 'Look for logins for what is written to registries in this file only' -r -F
complete -c rpub -n "__fish_rpub_using_subcommand index; and __fish_seen_subcommand_from inspect" -l registry-token-file -d 'Send the bearer token in this file to this registry (repeatable)' -r
complete -c rpub -n "__fish_rpub_using_subcommand index; and __fish_seen_subcommand_from inspect" -l raw -d 'Print the exact bytes'
complete -c rpub -n "__fish_rpub_using_subcommand index; and __fish_seen_subcommand_from inspect" -l local -d 'Look into the store instead of a registry'
complete -c rpub -n "__fish_rpub_using_subcommand index; and __fish_seen_subcommand_from inspect" -s q -l quiet -d 'Show no progress, print only the result'
complete -c rpub -n "__fish_rpub_using_subcommand index; and __fish_seen_subcommand_from inspect" -l offline -d 'Open no connection to anybody: what is here counts, as it was last seen'
complete -c rpub -n "__fish_rpub_using_subcommand index; and __fish_seen_subcommand_from inspect" -s h -l help -d 'Print help'
complete -c rpub -n "__fish_rpub_using_subcommand index; and __fish_seen_subcommand_from help" -f -a "create" -d 'Make an index of images, which may be in other registries'
complete -c rpub -n "__fish_rpub_using_subcommand index; and __fish_seen_subcommand_from help" -f -a "add" -d 'Add images to an index'
complete -c rpub -n "__fish_rpub_using_subcommand index; and __fish_seen_subcommand_from help" -f -a "rm" -d 'Take images out of an index'
complete -c rpub -n "__fish_rpub_using_subcommand index; and __fish_seen_subcommand_from help" -f -a "annotate" -d 'Annotate an index or its entries'
complete -c rpub -n "__fish_rpub_using_subcommand index; and __fish_seen_subcommand_from help" -f -a "inspect" -d 'Show an index'
complete -c rpub -n "__fish_rpub_using_subcommand index; and __fish_seen_subcommand_from help" -f -a "help" -d 'Print this message or the help of the given subcommand(s)'
complete -c rpub -n "__fish_rpub_using_subcommand mutate" -s l -l label -d 'Set a label (repeatable)' -r
complete -c rpub -n "__fish_rpub_using_subcommand mutate" -l unset-label -d 'Remove a label (repeatable)' -r
complete -c rpub -n "__fish_rpub_using_subcommand mutate" -s e -l env -d 'Set an environment variable (repeatable)' -r
complete -c rpub -n "__fish_rpub_using_subcommand mutate" -l unset-env -d 'Remove an environment variable (repeatable)' -r
complete -c rpub -n "__fish_rpub_using_subcommand mutate" -l entrypoint -d 'Set the entry point, as WORD,WORD or a JSON list, and remove the command; empty for none' -r
complete -c rpub -n "__fish_rpub_using_subcommand mutate" -l cmd -d 'Set the command, as WORD,WORD or a JSON list; empty for none' -r
complete -c rpub -n "__fish_rpub_using_subcommand mutate" -s u -l user -d 'Set the user; empty for none' -r
complete -c rpub -n "__fish_rpub_using_subcommand mutate" -s w -l workdir -d 'Set the working directory; empty for none' -r
complete -c rpub -n "__fish_rpub_using_subcommand mutate" -l exposed-ports -l expose -d 'Expose a port (repeatable)' -r
complete -c rpub -n "__fish_rpub_using_subcommand mutate" -l unset-port -d 'Expose a port no longer (repeatable)' -r
complete -c rpub -n "__fish_rpub_using_subcommand mutate" -l volume -d 'Declare a volume (repeatable)' -r
complete -c rpub -n "__fish_rpub_using_subcommand mutate" -l unset-volume -d 'Declare a volume no longer (repeatable)' -r
complete -c rpub -n "__fish_rpub_using_subcommand mutate" -s a -l annotation -d 'Annotate the manifest, or with TYPE index, manifest-descriptor or both (repeatable)' -r
complete -c rpub -n "__fish_rpub_using_subcommand mutate" -l unset-annotation -d 'Remove an annotation of the manifest (repeatable)' -r
complete -c rpub -n "__fish_rpub_using_subcommand mutate" -l set-platform -d 'Say that the image is for this platform' -r
complete -c rpub -n "__fish_rpub_using_subcommand mutate" -l time -d 'Date image and history: seconds since 1970, or as 2026-01-31T12:00:00Z' -r
complete -c rpub -n "__fish_rpub_using_subcommand mutate" -l compression -d 'Compress layers by gzip, zstd, or not at all (uncompressed) [default: as they are]' -r
complete -c rpub -n "__fish_rpub_using_subcommand mutate" -l compression-level -d 'Compress them at this level' -r
complete -c rpub -n "__fish_rpub_using_subcommand mutate" -l repo -d 'Push the result to this repository, by digest alone' -r
complete -c rpub -n "__fish_rpub_using_subcommand mutate" -s t -l tag -d 'Give the result this name and leave the image as it is [default: edit in place] (repeatable)' -r
complete -c rpub -n "__fish_rpub_using_subcommand mutate" -s p -l platform -d 'Of an index, take only the images for this platform (repeatable)' -r
complete -c rpub -n "__fish_rpub_using_subcommand mutate" -l format -d 'Print json, the template given, or with table before it a table: \'table {{.ID}}\'' -r
complete -c rpub -n "__fish_rpub_using_subcommand mutate" -l store -d 'Keep images, layers and the build cache here [default: ~/.local/share/rpub]' -r -F
complete -c rpub -n "__fish_rpub_using_subcommand mutate" -l cache-size -d 'Keep the build cache within this size [default: a fifth of the disk, 10 to 100 GiB]' -r
complete -c rpub -n "__fish_rpub_using_subcommand mutate" -l progress -d 'Show progress as auto, tty, plain, quiet or rawjson' -r -f -a "auto\t'Bars on a terminal, plain lines elsewhere'
tty\t'Bars'
plain\t'Numbered lines'
quiet\t'Nothing but warnings and errors'
rawjson\t'One JSON object a line, for programs'"
complete -c rpub -n "__fish_rpub_using_subcommand mutate" -l insecure-registry -d 'Allow TLS with any certificate, or else plain HTTP, for this registry (repeatable)' -r
complete -c rpub -n "__fish_rpub_using_subcommand mutate" -l plain-http -d 'Reach this registry by plain HTTP (repeatable)' -r
complete -c rpub -n "__fish_rpub_using_subcommand mutate" -l skip-tls-verify -d 'Do not verify the certificate of this registry (repeatable)' -r
complete -c rpub -n "__fish_rpub_using_subcommand mutate" -l ca-file -d 'Also trust the certificate authorities in this PEM file (repeatable)' -r -F
complete -c rpub -n "__fish_rpub_using_subcommand mutate" -l cert-dir -d 'Use the authorities (*.crt) and client certificate (*.cert, *.key) in this directory' -r -F
complete -c rpub -n "__fish_rpub_using_subcommand mutate" -l registries-conf -d 'Read mirrors from this file [default: containers/registries.conf in ~/.config or /etc]' -r -F
complete -c rpub -n "__fish_rpub_using_subcommand mutate" -l retry-times -d 'Try a failed request so many times more [default: 4]' -r
complete -c rpub -n "__fish_rpub_using_subcommand mutate" -l retry-delay -d 'Wait so long before the first retry, twice as long before each further one [default: 500ms]' -r
complete -c rpub -n "__fish_rpub_using_subcommand mutate" -l max-wait -d 'Give up at once when a registry asks for a longer wait than this [default: 1m]' -r
complete -c rpub -n "__fish_rpub_using_subcommand mutate" -l idle-timeout -d 'Break off when a registry does nothing for so long [default: 90s]' -r
complete -c rpub -n "__fish_rpub_using_subcommand mutate" -l concurrency -d 'Move at most so many blobs at once each way [default: what the registry takes, up to 16]' -r
complete -c rpub -n "__fish_rpub_using_subcommand mutate" -l limit-rate -d 'Move at most so many bytes a second, both ways together, as in 5MB' -r
complete -c rpub -n "__fish_rpub_using_subcommand mutate" -l resolve -d 'Connect to this address for a registry\'s host and port (repeatable)' -r
complete -c rpub -n "__fish_rpub_using_subcommand mutate" -l http-header -d 'Send this header to registries; @FILE reads lines from a file (repeatable)' -r
complete -c rpub -n "__fish_rpub_using_subcommand mutate" -l user-agent-prefix -d 'Put this text before rpub\'s own in the user agent' -r
complete -c rpub -n "__fish_rpub_using_subcommand mutate" -l authfile -d 'Look for logins in this file only; login and logout change it' -r -F
complete -c rpub -n "__fish_rpub_using_subcommand mutate" -l src-authfile -d 'Look for logins for what is read from registries in this file only' -r -F
complete -c rpub -n "__fish_rpub_using_subcommand mutate" -l dest-authfile -d 'Look for logins for what is written to registries in this file only' -r -F
complete -c rpub -n "__fish_rpub_using_subcommand mutate" -l registry-token-file -d 'Send the bearer token in this file to this registry (repeatable)' -r
complete -c rpub -n "__fish_rpub_using_subcommand mutate" -l rewrite-timestamp -d 'Also let no file in the layers be newer than --time'
complete -c rpub -n "__fish_rpub_using_subcommand mutate" -l to-oci -d 'Change Docker\'s media types to OCI\'s'
complete -c rpub -n "__fish_rpub_using_subcommand mutate" -l to-docker -d 'Change OCI\'s media types to Docker\'s'
complete -c rpub -n "__fish_rpub_using_subcommand mutate" -l local -d 'Work on what is in the store instead of a registry'
complete -c rpub -n "__fish_rpub_using_subcommand mutate" -l dry-run -d 'Print the manifest that would be made, and push nothing'
complete -c rpub -n "__fish_rpub_using_subcommand mutate" -s q -l quiet -d 'Show no progress, print only the result'
complete -c rpub -n "__fish_rpub_using_subcommand mutate" -l offline -d 'Open no connection to anybody: what is here counts, as it was last seen'
complete -c rpub -n "__fish_rpub_using_subcommand mutate" -s h -l help -d 'Print help'
complete -c rpub -n "__fish_rpub_using_subcommand append" -s f -l new-layer -l new_layer -d 'Append this layer, a tar of any compression; - for standard input (repeatable)' -r -F
complete -c rpub -n "__fish_rpub_using_subcommand append" -s b -l base -d 'Append to this image or index [default: an image of nothing]' -r
complete -c rpub -n "__fish_rpub_using_subcommand append" -l time -d 'Date the new layers, in seconds since 1970 or as 2026-01-31T12:00:00Z [default: now]' -r
complete -c rpub -n "__fish_rpub_using_subcommand append" -s t -l tag -d 'Give the result this name and leave the image as it is [default: edit in place] (repeatable)' -r
complete -c rpub -n "__fish_rpub_using_subcommand append" -s p -l platform -d 'Of an index, take only the images for this platform (repeatable)' -r
complete -c rpub -n "__fish_rpub_using_subcommand append" -l format -d 'Print json, the template given, or with table before it a table: \'table {{.ID}}\'' -r
complete -c rpub -n "__fish_rpub_using_subcommand append" -l store -d 'Keep images, layers and the build cache here [default: ~/.local/share/rpub]' -r -F
complete -c rpub -n "__fish_rpub_using_subcommand append" -l cache-size -d 'Keep the build cache within this size [default: a fifth of the disk, 10 to 100 GiB]' -r
complete -c rpub -n "__fish_rpub_using_subcommand append" -l progress -d 'Show progress as auto, tty, plain, quiet or rawjson' -r -f -a "auto\t'Bars on a terminal, plain lines elsewhere'
tty\t'Bars'
plain\t'Numbered lines'
quiet\t'Nothing but warnings and errors'
rawjson\t'One JSON object a line, for programs'"
complete -c rpub -n "__fish_rpub_using_subcommand append" -l insecure-registry -d 'Allow TLS with any certificate, or else plain HTTP, for this registry (repeatable)' -r
complete -c rpub -n "__fish_rpub_using_subcommand append" -l plain-http -d 'Reach this registry by plain HTTP (repeatable)' -r
complete -c rpub -n "__fish_rpub_using_subcommand append" -l skip-tls-verify -d 'Do not verify the certificate of this registry (repeatable)' -r
complete -c rpub -n "__fish_rpub_using_subcommand append" -l ca-file -d 'Also trust the certificate authorities in this PEM file (repeatable)' -r -F
complete -c rpub -n "__fish_rpub_using_subcommand append" -l cert-dir -d 'Use the authorities (*.crt) and client certificate (*.cert, *.key) in this directory' -r -F
complete -c rpub -n "__fish_rpub_using_subcommand append" -l registries-conf -d 'Read mirrors from this file [default: containers/registries.conf in ~/.config or /etc]' -r -F
complete -c rpub -n "__fish_rpub_using_subcommand append" -l retry-times -d 'Try a failed request so many times more [default: 4]' -r
complete -c rpub -n "__fish_rpub_using_subcommand append" -l retry-delay -d 'Wait so long before the first retry, twice as long before each further one [default: 500ms]' -r
complete -c rpub -n "__fish_rpub_using_subcommand append" -l max-wait -d 'Give up at once when a registry asks for a longer wait than this [default: 1m]' -r
complete -c rpub -n "__fish_rpub_using_subcommand append" -l idle-timeout -d 'Break off when a registry does nothing for so long [default: 90s]' -r
complete -c rpub -n "__fish_rpub_using_subcommand append" -l concurrency -d 'Move at most so many blobs at once each way [default: what the registry takes, up to 16]' -r
complete -c rpub -n "__fish_rpub_using_subcommand append" -l limit-rate -d 'Move at most so many bytes a second, both ways together, as in 5MB' -r
complete -c rpub -n "__fish_rpub_using_subcommand append" -l resolve -d 'Connect to this address for a registry\'s host and port (repeatable)' -r
complete -c rpub -n "__fish_rpub_using_subcommand append" -l http-header -d 'Send this header to registries; @FILE reads lines from a file (repeatable)' -r
complete -c rpub -n "__fish_rpub_using_subcommand append" -l user-agent-prefix -d 'Put this text before rpub\'s own in the user agent' -r
complete -c rpub -n "__fish_rpub_using_subcommand append" -l authfile -d 'Look for logins in this file only; login and logout change it' -r -F
complete -c rpub -n "__fish_rpub_using_subcommand append" -l src-authfile -d 'Look for logins for what is read from registries in this file only' -r -F
complete -c rpub -n "__fish_rpub_using_subcommand append" -l dest-authfile -d 'Look for logins for what is written to registries in this file only' -r -F
complete -c rpub -n "__fish_rpub_using_subcommand append" -l registry-token-file -d 'Send the bearer token in this file to this registry (repeatable)' -r
complete -c rpub -n "__fish_rpub_using_subcommand append" -l set-base-image-annotations -d 'Annotate the result with name and digest of its base'
complete -c rpub -n "__fish_rpub_using_subcommand append" -l local -d 'Work on what is in the store instead of a registry'
complete -c rpub -n "__fish_rpub_using_subcommand append" -l dry-run -d 'Print the manifest that would be made, and push nothing'
complete -c rpub -n "__fish_rpub_using_subcommand append" -s q -l quiet -d 'Show no progress, print only the result'
complete -c rpub -n "__fish_rpub_using_subcommand append" -l offline -d 'Open no connection to anybody: what is here counts, as it was last seen'
complete -c rpub -n "__fish_rpub_using_subcommand append" -s h -l help -d 'Print help'
complete -c rpub -n "__fish_rpub_using_subcommand flatten" -l time -d 'Date image and layer, in seconds since 1970 or as 2026-01-31T12:00:00Z [default: the image\'s]' -r
complete -c rpub -n "__fish_rpub_using_subcommand flatten" -s t -l tag -d 'Give the result this name and leave the image as it is [default: edit in place] (repeatable)' -r
complete -c rpub -n "__fish_rpub_using_subcommand flatten" -s p -l platform -d 'Of an index, take only the images for this platform (repeatable)' -r
complete -c rpub -n "__fish_rpub_using_subcommand flatten" -l format -d 'Print json, the template given, or with table before it a table: \'table {{.ID}}\'' -r
complete -c rpub -n "__fish_rpub_using_subcommand flatten" -l store -d 'Keep images, layers and the build cache here [default: ~/.local/share/rpub]' -r -F
complete -c rpub -n "__fish_rpub_using_subcommand flatten" -l cache-size -d 'Keep the build cache within this size [default: a fifth of the disk, 10 to 100 GiB]' -r
complete -c rpub -n "__fish_rpub_using_subcommand flatten" -l progress -d 'Show progress as auto, tty, plain, quiet or rawjson' -r -f -a "auto\t'Bars on a terminal, plain lines elsewhere'
tty\t'Bars'
plain\t'Numbered lines'
quiet\t'Nothing but warnings and errors'
rawjson\t'One JSON object a line, for programs'"
complete -c rpub -n "__fish_rpub_using_subcommand flatten" -l insecure-registry -d 'Allow TLS with any certificate, or else plain HTTP, for this registry (repeatable)' -r
complete -c rpub -n "__fish_rpub_using_subcommand flatten" -l plain-http -d 'Reach this registry by plain HTTP (repeatable)' -r
complete -c rpub -n "__fish_rpub_using_subcommand flatten" -l skip-tls-verify -d 'Do not verify the certificate of this registry (repeatable)' -r
complete -c rpub -n "__fish_rpub_using_subcommand flatten" -l ca-file -d 'Also trust the certificate authorities in this PEM file (repeatable)' -r -F
complete -c rpub -n "__fish_rpub_using_subcommand flatten" -l cert-dir -d 'Use the authorities (*.crt) and client certificate (*.cert, *.key) in this directory' -r -F
complete -c rpub -n "__fish_rpub_using_subcommand flatten" -l registries-conf -d 'Read mirrors from this file [default: containers/registries.conf in ~/.config or /etc]' -r -F
complete -c rpub -n "__fish_rpub_using_subcommand flatten" -l retry-times -d 'Try a failed request so many times more [default: 4]' -r
complete -c rpub -n "__fish_rpub_using_subcommand flatten" -l retry-delay -d 'Wait so long before the first retry, twice as long before each further one [default: 500ms]' -r
complete -c rpub -n "__fish_rpub_using_subcommand flatten" -l max-wait -d 'Give up at once when a registry asks for a longer wait than this [default: 1m]' -r
complete -c rpub -n "__fish_rpub_using_subcommand flatten" -l idle-timeout -d 'Break off when a registry does nothing for so long [default: 90s]' -r
complete -c rpub -n "__fish_rpub_using_subcommand flatten" -l concurrency -d 'Move at most so many blobs at once each way [default: what the registry takes, up to 16]' -r
complete -c rpub -n "__fish_rpub_using_subcommand flatten" -l limit-rate -d 'Move at most so many bytes a second, both ways together, as in 5MB' -r
complete -c rpub -n "__fish_rpub_using_subcommand flatten" -l resolve -d 'Connect to this address for a registry\'s host and port (repeatable)' -r
complete -c rpub -n "__fish_rpub_using_subcommand flatten" -l http-header -d 'Send this header to registries; @FILE reads lines from a file (repeatable)' -r
complete -c rpub -n "__fish_rpub_using_subcommand flatten" -l user-agent-prefix -d 'Put this text before rpub\'s own in the user agent' -r
complete -c rpub -n "__fish_rpub_using_subcommand flatten" -l authfile -d 'Look for logins in this file only; login and logout change it' -r -F
complete -c rpub -n "__fish_rpub_using_subcommand flatten" -l src-authfile -d 'Look for logins for what is read from registries in this file only' -r -F
complete -c rpub -n "__fish_rpub_using_subcommand flatten" -l dest-authfile -d 'Look for logins for what is written to registries in this file only' -r -F
complete -c rpub -n "__fish_rpub_using_subcommand flatten" -l registry-token-file -d 'Send the bearer token in this file to this registry (repeatable)' -r
complete -c rpub -n "__fish_rpub_using_subcommand flatten" -l local -d 'Work on what is in the store instead of a registry'
complete -c rpub -n "__fish_rpub_using_subcommand flatten" -l dry-run -d 'Print the manifest that would be made, and push nothing'
complete -c rpub -n "__fish_rpub_using_subcommand flatten" -s q -l quiet -d 'Show no progress, print only the result'
complete -c rpub -n "__fish_rpub_using_subcommand flatten" -l offline -d 'Open no connection to anybody: what is here counts, as it was last seen'
complete -c rpub -n "__fish_rpub_using_subcommand flatten" -s h -l help -d 'Print help'
complete -c rpub -n "__fish_rpub_using_subcommand rebase" -l old_base -l old-base -d 'Base that the image was made of [default: what its annotations say]' -r
complete -c rpub -n "__fish_rpub_using_subcommand rebase" -l new_base -l new-base -d 'Base that the image gets [default: what the old base\'s name stands for now]' -r
complete -c rpub -n "__fish_rpub_using_subcommand rebase" -s t -l tag -d 'Give the result this name and leave the image as it is [default: edit in place] (repeatable)' -r
complete -c rpub -n "__fish_rpub_using_subcommand rebase" -s p -l platform -d 'Of an index, take only the images for this platform (repeatable)' -r
complete -c rpub -n "__fish_rpub_using_subcommand rebase" -l format -d 'Print json, the template given, or with table before it a table: \'table {{.ID}}\'' -r
complete -c rpub -n "__fish_rpub_using_subcommand rebase" -l store -d 'Keep images, layers and the build cache here [default: ~/.local/share/rpub]' -r -F
complete -c rpub -n "__fish_rpub_using_subcommand rebase" -l cache-size -d 'Keep the build cache within this size [default: a fifth of the disk, 10 to 100 GiB]' -r
complete -c rpub -n "__fish_rpub_using_subcommand rebase" -l progress -d 'Show progress as auto, tty, plain, quiet or rawjson' -r -f -a "auto\t'Bars on a terminal, plain lines elsewhere'
tty\t'Bars'
plain\t'Numbered lines'
quiet\t'Nothing but warnings and errors'
rawjson\t'One JSON object a line, for programs'"
complete -c rpub -n "__fish_rpub_using_subcommand rebase" -l insecure-registry -d 'Allow TLS with any certificate, or else plain HTTP, for this registry (repeatable)' -r
complete -c rpub -n "__fish_rpub_using_subcommand rebase" -l plain-http -d 'Reach this registry by plain HTTP (repeatable)' -r
complete -c rpub -n "__fish_rpub_using_subcommand rebase" -l skip-tls-verify -d 'Do not verify the certificate of this registry (repeatable)' -r
complete -c rpub -n "__fish_rpub_using_subcommand rebase" -l ca-file -d 'Also trust the certificate authorities in this PEM file (repeatable)' -r -F
complete -c rpub -n "__fish_rpub_using_subcommand rebase" -l cert-dir -d 'Use the authorities (*.crt) and client certificate (*.cert, *.key) in this directory' -r -F
complete -c rpub -n "__fish_rpub_using_subcommand rebase" -l registries-conf -d 'Read mirrors from this file [default: containers/registries.conf in ~/.config or /etc]' -r -F
complete -c rpub -n "__fish_rpub_using_subcommand rebase" -l retry-times -d 'Try a failed request so many times more [default: 4]' -r
complete -c rpub -n "__fish_rpub_using_subcommand rebase" -l retry-delay -d 'Wait so long before the first retry, twice as long before each further one [default: 500ms]' -r
complete -c rpub -n "__fish_rpub_using_subcommand rebase" -l max-wait -d 'Give up at once when a registry asks for a longer wait than this [default: 1m]' -r
complete -c rpub -n "__fish_rpub_using_subcommand rebase" -l idle-timeout -d 'Break off when a registry does nothing for so long [default: 90s]' -r
complete -c rpub -n "__fish_rpub_using_subcommand rebase" -l concurrency -d 'Move at most so many blobs at once each way [default: what the registry takes, up to 16]' -r
complete -c rpub -n "__fish_rpub_using_subcommand rebase" -l limit-rate -d 'Move at most so many bytes a second, both ways together, as in 5MB' -r
complete -c rpub -n "__fish_rpub_using_subcommand rebase" -l resolve -d 'Connect to this address for a registry\'s host and port (repeatable)' -r
complete -c rpub -n "__fish_rpub_using_subcommand rebase" -l http-header -d 'Send this header to registries; @FILE reads lines from a file (repeatable)' -r
complete -c rpub -n "__fish_rpub_using_subcommand rebase" -l user-agent-prefix -d 'Put this text before rpub\'s own in the user agent' -r
complete -c rpub -n "__fish_rpub_using_subcommand rebase" -l authfile -d 'Look for logins in this file only; login and logout change it' -r -F
complete -c rpub -n "__fish_rpub_using_subcommand rebase" -l src-authfile -d 'Look for logins for what is read from registries in this file only' -r -F
complete -c rpub -n "__fish_rpub_using_subcommand rebase" -l dest-authfile -d 'Look for logins for what is written to registries in this file only' -r -F
complete -c rpub -n "__fish_rpub_using_subcommand rebase" -l registry-token-file -d 'Send the bearer token in this file to this registry (repeatable)' -r
complete -c rpub -n "__fish_rpub_using_subcommand rebase" -l check -d 'Only say whether the base has moved on; exit with 1 if it has'
complete -c rpub -n "__fish_rpub_using_subcommand rebase" -l local -d 'Work on what is in the store instead of a registry'
complete -c rpub -n "__fish_rpub_using_subcommand rebase" -l dry-run -d 'Print the manifest that would be made, and push nothing'
complete -c rpub -n "__fish_rpub_using_subcommand rebase" -s q -l quiet -d 'Show no progress, print only the result'
complete -c rpub -n "__fish_rpub_using_subcommand rebase" -l offline -d 'Open no connection to anybody: what is here counts, as it was last seen'
complete -c rpub -n "__fish_rpub_using_subcommand rebase" -s h -l help -d 'Print help'
complete -c rpub -n "__fish_rpub_using_subcommand validate" -l format -d 'Print json, the template given, or with table before it a table: \'table {{.ID}}\'' -r
complete -c rpub -n "__fish_rpub_using_subcommand validate" -l store -d 'Keep images, layers and the build cache here [default: ~/.local/share/rpub]' -r -F
complete -c rpub -n "__fish_rpub_using_subcommand validate" -l cache-size -d 'Keep the build cache within this size [default: a fifth of the disk, 10 to 100 GiB]' -r
complete -c rpub -n "__fish_rpub_using_subcommand validate" -l progress -d 'Show progress as auto, tty, plain, quiet or rawjson' -r -f -a "auto\t'Bars on a terminal, plain lines elsewhere'
tty\t'Bars'
plain\t'Numbered lines'
quiet\t'Nothing but warnings and errors'
rawjson\t'One JSON object a line, for programs'"
complete -c rpub -n "__fish_rpub_using_subcommand validate" -l insecure-registry -d 'Allow TLS with any certificate, or else plain HTTP, for this registry (repeatable)' -r
complete -c rpub -n "__fish_rpub_using_subcommand validate" -l plain-http -d 'Reach this registry by plain HTTP (repeatable)' -r
complete -c rpub -n "__fish_rpub_using_subcommand validate" -l skip-tls-verify -d 'Do not verify the certificate of this registry (repeatable)' -r
complete -c rpub -n "__fish_rpub_using_subcommand validate" -l ca-file -d 'Also trust the certificate authorities in this PEM file (repeatable)' -r -F
complete -c rpub -n "__fish_rpub_using_subcommand validate" -l cert-dir -d 'Use the authorities (*.crt) and client certificate (*.cert, *.key) in this directory' -r -F
complete -c rpub -n "__fish_rpub_using_subcommand validate" -l registries-conf -d 'Read mirrors from this file [default: containers/registries.conf in ~/.config or /etc]' -r -F
complete -c rpub -n "__fish_rpub_using_subcommand validate" -l retry-times -d 'Try a failed request so many times more [default: 4]' -r
complete -c rpub -n "__fish_rpub_using_subcommand validate" -l retry-delay -d 'Wait so long before the first retry, twice as long before each further one [default: 500ms]' -r
complete -c rpub -n "__fish_rpub_using_subcommand validate" -l max-wait -d 'Give up at once when a registry asks for a longer wait than this [default: 1m]' -r
complete -c rpub -n "__fish_rpub_using_subcommand validate" -l idle-timeout -d 'Break off when a registry does nothing for so long [default: 90s]' -r
complete -c rpub -n "__fish_rpub_using_subcommand validate" -l concurrency -d 'Move at most so many blobs at once each way [default: what the registry takes, up to 16]' -r
complete -c rpub -n "__fish_rpub_using_subcommand validate" -l limit-rate -d 'Move at most so many bytes a second, both ways together, as in 5MB' -r
complete -c rpub -n "__fish_rpub_using_subcommand validate" -l resolve -d 'Connect to this address for a registry\'s host and port (repeatable)' -r
complete -c rpub -n "__fish_rpub_using_subcommand validate" -l http-header -d 'Send this header to registries; @FILE reads lines from a file (repeatable)' -r
complete -c rpub -n "__fish_rpub_using_subcommand validate" -l user-agent-prefix -d 'Put this text before rpub\'s own in the user agent' -r
complete -c rpub -n "__fish_rpub_using_subcommand validate" -l authfile -d 'Look for logins in this file only; login and logout change it' -r -F
complete -c rpub -n "__fish_rpub_using_subcommand validate" -l src-authfile -d 'Look for logins for what is read from registries in this file only' -r -F
complete -c rpub -n "__fish_rpub_using_subcommand validate" -l dest-authfile -d 'Look for logins for what is written to registries in this file only' -r -F
complete -c rpub -n "__fish_rpub_using_subcommand validate" -l registry-token-file -d 'Send the bearer token in this file to this registry (repeatable)' -r
complete -c rpub -n "__fish_rpub_using_subcommand validate" -l fast -d 'Do not read layers: see only that they are there, with the right size'
complete -c rpub -n "__fish_rpub_using_subcommand validate" -l local -d 'Look into the store; without names, at all of it'
complete -c rpub -n "__fish_rpub_using_subcommand validate" -s q -l quiet -d 'Show no progress, print only the result'
complete -c rpub -n "__fish_rpub_using_subcommand validate" -l offline -d 'Open no connection to anybody: what is here counts, as it was last seen'
complete -c rpub -n "__fish_rpub_using_subcommand validate" -s h -l help -d 'Print help'
complete -c rpub -n "__fish_rpub_using_subcommand df" -l format -d 'Print json, the template given, or with table before it a table: \'table {{.ID}}\'' -r
complete -c rpub -n "__fish_rpub_using_subcommand df" -l store -d 'Keep images, layers and the build cache here [default: ~/.local/share/rpub]' -r -F
complete -c rpub -n "__fish_rpub_using_subcommand df" -l cache-size -d 'Keep the build cache within this size [default: a fifth of the disk, 10 to 100 GiB]' -r
complete -c rpub -n "__fish_rpub_using_subcommand df" -l progress -d 'Show progress as auto, tty, plain, quiet or rawjson' -r -f -a "auto\t'Bars on a terminal, plain lines elsewhere'
tty\t'Bars'
plain\t'Numbered lines'
quiet\t'Nothing but warnings and errors'
rawjson\t'One JSON object a line, for programs'"
complete -c rpub -n "__fish_rpub_using_subcommand df" -l insecure-registry -d 'Allow TLS with any certificate, or else plain HTTP, for this registry (repeatable)' -r
complete -c rpub -n "__fish_rpub_using_subcommand df" -l plain-http -d 'Reach this registry by plain HTTP (repeatable)' -r
complete -c rpub -n "__fish_rpub_using_subcommand df" -l skip-tls-verify -d 'Do not verify the certificate of this registry (repeatable)' -r
complete -c rpub -n "__fish_rpub_using_subcommand df" -l ca-file -d 'Also trust the certificate authorities in this PEM file (repeatable)' -r -F
complete -c rpub -n "__fish_rpub_using_subcommand df" -l cert-dir -d 'Use the authorities (*.crt) and client certificate (*.cert, *.key) in this directory' -r -F
complete -c rpub -n "__fish_rpub_using_subcommand df" -l registries-conf -d 'Read mirrors from this file [default: containers/registries.conf in ~/.config or /etc]' -r -F
complete -c rpub -n "__fish_rpub_using_subcommand df" -l retry-times -d 'Try a failed request so many times more [default: 4]' -r
complete -c rpub -n "__fish_rpub_using_subcommand df" -l retry-delay -d 'Wait so long before the first retry, twice as long before each further one [default: 500ms]' -r
complete -c rpub -n "__fish_rpub_using_subcommand df" -l max-wait -d 'Give up at once when a registry asks for a longer wait than this [default: 1m]' -r
complete -c rpub -n "__fish_rpub_using_subcommand df" -l idle-timeout -d 'Break off when a registry does nothing for so long [default: 90s]' -r
complete -c rpub -n "__fish_rpub_using_subcommand df" -l concurrency -d 'Move at most so many blobs at once each way [default: what the registry takes, up to 16]' -r
complete -c rpub -n "__fish_rpub_using_subcommand df" -l limit-rate -d 'Move at most so many bytes a second, both ways together, as in 5MB' -r
complete -c rpub -n "__fish_rpub_using_subcommand df" -l resolve -d 'Connect to this address for a registry\'s host and port (repeatable)' -r
complete -c rpub -n "__fish_rpub_using_subcommand df" -l http-header -d 'Send this header to registries; @FILE reads lines from a file (repeatable)' -r
complete -c rpub -n "__fish_rpub_using_subcommand df" -l user-agent-prefix -d 'Put this text before rpub\'s own in the user agent' -r
complete -c rpub -n "__fish_rpub_using_subcommand df" -l authfile -d 'Look for logins in this file only; login and logout change it' -r -F
complete -c rpub -n "__fish_rpub_using_subcommand df" -l src-authfile -d 'Look for logins for what is read from registries in this file only' -r -F
complete -c rpub -n "__fish_rpub_using_subcommand df" -l dest-authfile -d 'Look for logins for what is written to registries in this file only' -r -F
complete -c rpub -n "__fish_rpub_using_subcommand df" -l registry-token-file -d 'Send the bearer token in this file to this registry (repeatable)' -r
complete -c rpub -n "__fish_rpub_using_subcommand df" -s q -l quiet -d 'Show no progress, print only the result'
complete -c rpub -n "__fish_rpub_using_subcommand df" -l offline -d 'Open no connection to anybody: what is here counts, as it was last seen'
complete -c rpub -n "__fish_rpub_using_subcommand df" -s h -l help -d 'Print help'
complete -c rpub -n "__fish_rpub_using_subcommand prune" -l filter -d 'Remove only what was not used for some time: until=24h' -r
complete -c rpub -n "__fish_rpub_using_subcommand prune" -l max-used-space -l keep-storage -d 'Keep what was used last, up to this size: 10GB' -r
complete -c rpub -n "__fish_rpub_using_subcommand prune" -l store -d 'Keep images, layers and the build cache here [default: ~/.local/share/rpub]' -r -F
complete -c rpub -n "__fish_rpub_using_subcommand prune" -l cache-size -d 'Keep the build cache within this size [default: a fifth of the disk, 10 to 100 GiB]' -r
complete -c rpub -n "__fish_rpub_using_subcommand prune" -l progress -d 'Show progress as auto, tty, plain, quiet or rawjson' -r -f -a "auto\t'Bars on a terminal, plain lines elsewhere'
tty\t'Bars'
plain\t'Numbered lines'
quiet\t'Nothing but warnings and errors'
rawjson\t'One JSON object a line, for programs'"
complete -c rpub -n "__fish_rpub_using_subcommand prune" -l insecure-registry -d 'Allow TLS with any certificate, or else plain HTTP, for this registry (repeatable)' -r
complete -c rpub -n "__fish_rpub_using_subcommand prune" -l plain-http -d 'Reach this registry by plain HTTP (repeatable)' -r
complete -c rpub -n "__fish_rpub_using_subcommand prune" -l skip-tls-verify -d 'Do not verify the certificate of this registry (repeatable)' -r
complete -c rpub -n "__fish_rpub_using_subcommand prune" -l ca-file -d 'Also trust the certificate authorities in this PEM file (repeatable)' -r -F
complete -c rpub -n "__fish_rpub_using_subcommand prune" -l cert-dir -d 'Use the authorities (*.crt) and client certificate (*.cert, *.key) in this directory' -r -F
complete -c rpub -n "__fish_rpub_using_subcommand prune" -l registries-conf -d 'Read mirrors from this file [default: containers/registries.conf in ~/.config or /etc]' -r -F
complete -c rpub -n "__fish_rpub_using_subcommand prune" -l retry-times -d 'Try a failed request so many times more [default: 4]' -r
complete -c rpub -n "__fish_rpub_using_subcommand prune" -l retry-delay -d 'Wait so long before the first retry, twice as long before each further one [default: 500ms]' -r
complete -c rpub -n "__fish_rpub_using_subcommand prune" -l max-wait -d 'Give up at once when a registry asks for a longer wait than this [default: 1m]' -r
complete -c rpub -n "__fish_rpub_using_subcommand prune" -l idle-timeout -d 'Break off when a registry does nothing for so long [default: 90s]' -r
complete -c rpub -n "__fish_rpub_using_subcommand prune" -l concurrency -d 'Move at most so many blobs at once each way [default: what the registry takes, up to 16]' -r
complete -c rpub -n "__fish_rpub_using_subcommand prune" -l limit-rate -d 'Move at most so many bytes a second, both ways together, as in 5MB' -r
complete -c rpub -n "__fish_rpub_using_subcommand prune" -l resolve -d 'Connect to this address for a registry\'s host and port (repeatable)' -r
complete -c rpub -n "__fish_rpub_using_subcommand prune" -l http-header -d 'Send this header to registries; @FILE reads lines from a file (repeatable)' -r
complete -c rpub -n "__fish_rpub_using_subcommand prune" -l user-agent-prefix -d 'Put this text before rpub\'s own in the user agent' -r
complete -c rpub -n "__fish_rpub_using_subcommand prune" -l authfile -d 'Look for logins in this file only; login and logout change it' -r -F
complete -c rpub -n "__fish_rpub_using_subcommand prune" -l src-authfile -d 'Look for logins for what is read from registries in this file only' -r -F
complete -c rpub -n "__fish_rpub_using_subcommand prune" -l dest-authfile -d 'Look for logins for what is written to registries in this file only' -r -F
complete -c rpub -n "__fish_rpub_using_subcommand prune" -l registry-token-file -d 'Send the bearer token in this file to this registry (repeatable)' -r
complete -c rpub -n "__fish_rpub_using_subcommand prune" -s a -l all -d 'Also remove what named images could be built faster with'
complete -c rpub -n "__fish_rpub_using_subcommand prune" -l dry-run -d 'Only show what would be removed'
complete -c rpub -n "__fish_rpub_using_subcommand prune" -s f -l force -d 'Do not ask'
complete -c rpub -n "__fish_rpub_using_subcommand prune" -s q -l quiet -d 'Show no progress, print only the result'
complete -c rpub -n "__fish_rpub_using_subcommand prune" -l offline -d 'Open no connection to anybody: what is here counts, as it was last seen'
complete -c rpub -n "__fish_rpub_using_subcommand prune" -s h -l help -d 'Print help'
complete -c rpub -n "__fish_rpub_using_subcommand system; and not __fish_seen_subcommand_from df prune help" -l store -d 'Keep images, layers and the build cache here [default: ~/.local/share/rpub]' -r -F
complete -c rpub -n "__fish_rpub_using_subcommand system; and not __fish_seen_subcommand_from df prune help" -l cache-size -d 'Keep the build cache within this size [default: a fifth of the disk, 10 to 100 GiB]' -r
complete -c rpub -n "__fish_rpub_using_subcommand system; and not __fish_seen_subcommand_from df prune help" -l progress -d 'Show progress as auto, tty, plain, quiet or rawjson' -r -f -a "auto\t'Bars on a terminal, plain lines elsewhere'
tty\t'Bars'
plain\t'Numbered lines'
quiet\t'Nothing but warnings and errors'
rawjson\t'One JSON object a line, for programs'"
complete -c rpub -n "__fish_rpub_using_subcommand system; and not __fish_seen_subcommand_from df prune help" -l insecure-registry -d 'Allow TLS with any certificate, or else plain HTTP, for this registry (repeatable)' -r
complete -c rpub -n "__fish_rpub_using_subcommand system; and not __fish_seen_subcommand_from df prune help" -l plain-http -d 'Reach this registry by plain HTTP (repeatable)' -r
complete -c rpub -n "__fish_rpub_using_subcommand system; and not __fish_seen_subcommand_from df prune help" -l skip-tls-verify -d 'Do not verify the certificate of this registry (repeatable)' -r
complete -c rpub -n "__fish_rpub_using_subcommand system; and not __fish_seen_subcommand_from df prune help" -l ca-file -d 'Also trust the certificate authorities in this PEM file (repeatable)' -r -F
complete -c rpub -n "__fish_rpub_using_subcommand system; and not __fish_seen_subcommand_from df prune help" -l cert-dir -d 'Use the authorities (*.crt) and client certificate (*.cert, *.key) in this directory' -r -F
complete -c rpub -n "__fish_rpub_using_subcommand system; and not __fish_seen_subcommand_from df prune help" -l registries-conf -d 'Read mirrors from this file [default: containers/registries.conf in ~/.config or /etc]' -r -F
complete -c rpub -n "__fish_rpub_using_subcommand system; and not __fish_seen_subcommand_from df prune help" -l retry-times -d 'Try a failed request so many times more [default: 4]' -r
complete -c rpub -n "__fish_rpub_using_subcommand system; and not __fish_seen_subcommand_from df prune help" -l retry-delay -d 'Wait so long before the first retry, twice as long before each further one [default: 500ms]' -r
complete -c rpub -n "__fish_rpub_using_subcommand system; and not __fish_seen_subcommand_from df prune help" -l max-wait -d 'Give up at once when a registry asks for a longer wait than this [default: 1m]' -r
complete -c rpub -n "__fish_rpub_using_subcommand system; and not __fish_seen_subcommand_from df prune help" -l idle-timeout -d 'Break off when a registry does nothing for so long [default: 90s]' -r
complete -c rpub -n "__fish_rpub_using_subcommand system; and not __fish_seen_subcommand_from df prune help" -l concurrency -d 'Move at most so many blobs at once each way [default: what the registry takes, up to 16]' -r
complete -c rpub -n "__fish_rpub_using_subcommand system; and not __fish_seen_subcommand_from df prune help" -l limit-rate -d 'Move at most so many bytes a second, both ways together, as in 5MB' -r
complete -c rpub -n "__fish_rpub_using_subcommand system; and not __fish_seen_subcommand_from df prune help" -l resolve -d 'Connect to this address for a registry\'s host and port (repeatable)' -r
complete -c rpub -n "__fish_rpub_using_subcommand system; and not __fish_seen_subcommand_from df prune help" -l http-header -d 'Send this header to registries; @FILE reads lines from a file (repeatable)' -r
complete -c rpub -n "__fish_rpub_using_subcommand system; and not __fish_seen_subcommand_from df prune help" -l user-agent-prefix -d 'Put this text before rpub\'s own in the user agent' -r
complete -c rpub -n "__fish_rpub_using_subcommand system; and not __fish_seen_subcommand_from df prune help" -l authfile -d 'Look for logins in this file only; login and logout change it' -r -F
complete -c rpub -n "__fish_rpub_using_subcommand system; and not __fish_seen_subcommand_from df prune help" -l src-authfile -d 'Look for logins for what is read from registries in this file only' -r -F
complete -c rpub -n "__fish_rpub_using_subcommand system; and not __fish_seen_subcommand_from df prune help" -l dest-authfile -d 'Look for logins for what is written to registries in this file only' -r -F
complete -c rpub -n "__fish_rpub_using_subcommand system; and not __fish_seen_subcommand_from df prune help" -l registry-token-file -d 'Send the bearer token in this file to this registry (repeatable)' -r
complete -c rpub -n "__fish_rpub_using_subcommand system; and not __fish_seen_subcommand_from df prune help" -s q -l quiet -d 'Show no progress, print only the result'
complete -c rpub -n "__fish_rpub_using_subcommand system; and not __fish_seen_subcommand_from df prune help" -l offline -d 'Open no connection to anybody: what is here counts, as it was last seen'
complete -c rpub -n "__fish_rpub_using_subcommand system; and not __fish_seen_subcommand_from df prune help" -s h -l help -d 'Print help'
complete -c rpub -n "__fish_rpub_using_subcommand system; and not __fish_seen_subcommand_from df prune help" -f -a "df" -d 'Show what the store takes on disk'
complete -c rpub -n "__fish_rpub_using_subcommand system; and not __fish_seen_subcommand_from df prune help" -f -a "prune" -d 'Remove what only makes later builds faster, and images without a name'
complete -c rpub -n "__fish_rpub_using_subcommand system; and not __fish_seen_subcommand_from df prune help" -f -a "help" -d 'Print this message or the help of the given subcommand(s)'
complete -c rpub -n "__fish_rpub_using_subcommand system; and __fish_seen_subcommand_from df" -l format -d 'Print json, the template given, or with table before it a table: \'table {{.ID}}\'' -r
complete -c rpub -n "__fish_rpub_using_subcommand system; and __fish_seen_subcommand_from df" -l store -d 'Keep images, layers and the build cache here [default: ~/.local/share/rpub]' -r -F
complete -c rpub -n "__fish_rpub_using_subcommand system; and __fish_seen_subcommand_from df" -l cache-size -d 'Keep the build cache within this size [default: a fifth of the disk, 10 to 100 GiB]' -r
complete -c rpub -n "__fish_rpub_using_subcommand system; and __fish_seen_subcommand_from df" -l progress -d 'Show progress as auto, tty, plain, quiet or rawjson' -r -f -a "auto\t'Bars on a terminal, plain lines elsewhere'
tty\t'Bars'
plain\t'Numbered lines'
quiet\t'Nothing but warnings and errors'
rawjson\t'One JSON object a line, for programs'"
complete -c rpub -n "__fish_rpub_using_subcommand system; and __fish_seen_subcommand_from df" -l insecure-registry -d 'Allow TLS with any certificate, or else plain HTTP, for this registry (repeatable)' -r
complete -c rpub -n "__fish_rpub_using_subcommand system; and __fish_seen_subcommand_from df" -l plain-http -d 'Reach this registry by plain HTTP (repeatable)' -r
complete -c rpub -n "__fish_rpub_using_subcommand system; and __fish_seen_subcommand_from df" -l skip-tls-verify -d 'Do not verify the certificate of this registry (repeatable)' -r
complete -c rpub -n "__fish_rpub_using_subcommand system; and __fish_seen_subcommand_from df" -l ca-file -d 'Also trust the certificate authorities in this PEM file (repeatable)' -r -F
complete -c rpub -n "__fish_rpub_using_subcommand system; and __fish_seen_subcommand_from df" -l cert-dir -d 'Use the authorities (*.crt) and client certificate (*.cert, *.key) in this directory' -r -F
complete -c rpub -n "__fish_rpub_using_subcommand system; and __fish_seen_subcommand_from df" -l registries-conf -d 'Read mirrors from this file [default: containers/registries.conf in ~/.config or /etc]' -r -F
complete -c rpub -n "__fish_rpub_using_subcommand system; and __fish_seen_subcommand_from df" -l retry-times -d 'Try a failed request so many times more [default: 4]' -r
complete -c rpub -n "__fish_rpub_using_subcommand system; and __fish_seen_subcommand_from df" -l retry-delay -d 'Wait so long before the first retry, twice as long before each further one [default: 500ms]' -r
complete -c rpub -n "__fish_rpub_using_subcommand system; and __fish_seen_subcommand_from df" -l max-wait -d 'Give up at once when a registry asks for a longer wait than this [default: 1m]' -r
complete -c rpub -n "__fish_rpub_using_subcommand system; and __fish_seen_subcommand_from df" -l idle-timeout -d 'Break off when a registry does nothing for so long [default: 90s]' -r
complete -c rpub -n "__fish_rpub_using_subcommand system; and __fish_seen_subcommand_from df" -l concurrency -d 'Move at most so many blobs at once each way [default: what the registry takes, up to 16]' -r
complete -c rpub -n "__fish_rpub_using_subcommand system; and __fish_seen_subcommand_from df" -l limit-rate -d 'Move at most so many bytes a second, both ways together, as in 5MB' -r
complete -c rpub -n "__fish_rpub_using_subcommand system; and __fish_seen_subcommand_from df" -l resolve -d 'Connect to this address for a registry\'s host and port (repeatable)' -r
complete -c rpub -n "__fish_rpub_using_subcommand system; and __fish_seen_subcommand_from df" -l http-header -d 'Send this header to registries; @FILE reads lines from a file (repeatable)' -r
complete -c rpub -n "__fish_rpub_using_subcommand system; and __fish_seen_subcommand_from df" -l user-agent-prefix -d 'Put this text before rpub\'s own in the user agent' -r
complete -c rpub -n "__fish_rpub_using_subcommand system; and __fish_seen_subcommand_from df" -l authfile -d 'Look for logins in this file only; login and logout change it' -r -F
complete -c rpub -n "__fish_rpub_using_subcommand system; and __fish_seen_subcommand_from df" -l src-authfile -d 'Look for logins for what is read from registries in this file only' -r -F
complete -c rpub -n "__fish_rpub_using_subcommand system; and __fish_seen_subcommand_from df" -l dest-authfile -d 'Look for logins for what is written to registries in this file only' -r -F
complete -c rpub -n "__fish_rpub_using_subcommand system; and __fish_seen_subcommand_from df" -l registry-token-file -d 'Send the bearer token in this file to this registry (repeatable)' -r
complete -c rpub -n "__fish_rpub_using_subcommand system; and __fish_seen_subcommand_from df" -s q -l quiet -d 'Show no progress, print only the result'
complete -c rpub -n "__fish_rpub_using_subcommand system; and __fish_seen_subcommand_from df" -l offline -d 'Open no connection to anybody: what is here counts, as it was last seen'
complete -c rpub -n "__fish_rpub_using_subcommand system; and __fish_seen_subcommand_from df" -s h -l help -d 'Print help'
complete -c rpub -n "__fish_rpub_using_subcommand system; and __fish_seen_subcommand_from prune" -l filter -d 'Remove only what was not used for some time: until=24h' -r
complete -c rpub -n "__fish_rpub_using_subcommand system; and __fish_seen_subcommand_from prune" -l max-used-space -l keep-storage -d 'Keep what was used last, up to this size: 10GB' -r
complete -c rpub -n "__fish_rpub_using_subcommand system; and __fish_seen_subcommand_from prune" -l store -d 'Keep images, layers and the build cache here [default: ~/.local/share/rpub]' -r -F
complete -c rpub -n "__fish_rpub_using_subcommand system; and __fish_seen_subcommand_from prune" -l cache-size -d 'Keep the build cache within this size [default: a fifth of the disk, 10 to 100 GiB]' -r
complete -c rpub -n "__fish_rpub_using_subcommand system; and __fish_seen_subcommand_from prune" -l progress -d 'Show progress as auto, tty, plain, quiet or rawjson' -r -f -a "auto\t'Bars on a terminal, plain lines elsewhere'
tty\t'Bars'
plain\t'Numbered lines'
quiet\t'Nothing but warnings and errors'
rawjson\t'One JSON object a line, for programs'"
complete -c rpub -n "__fish_rpub_using_subcommand system; and __fish_seen_subcommand_from prune" -l insecure-registry -d 'Allow TLS with any certificate, or else plain HTTP, for this registry (repeatable)' -r
complete -c rpub -n "__fish_rpub_using_subcommand system; and __fish_seen_subcommand_from prune" -l plain-http -d 'Reach this registry by plain HTTP (repeatable)' -r
complete -c rpub -n "__fish_rpub_using_subcommand system; and __fish_seen_subcommand_from prune" -l skip-tls-verify -d 'Do not verify the certificate of this registry (repeatable)' -r
complete -c rpub -n "__fish_rpub_using_subcommand system; and __fish_seen_subcommand_from prune" -l ca-file -d 'Also trust the certificate authorities in this PEM file (repeatable)' -r -F
complete -c rpub -n "__fish_rpub_using_subcommand system; and __fish_seen_subcommand_from prune" -l cert-dir -d 'Use the authorities (*.crt) and client certificate (*.cert, *.key) in this directory' -r -F
complete -c rpub -n "__fish_rpub_using_subcommand system; and __fish_seen_subcommand_from prune" -l registries-conf -d 'Read mirrors from this file [default: containers/registries.conf in ~/.config or /etc]' -r -F
complete -c rpub -n "__fish_rpub_using_subcommand system; and __fish_seen_subcommand_from prune" -l retry-times -d 'Try a failed request so many times more [default: 4]' -r
complete -c rpub -n "__fish_rpub_using_subcommand system; and __fish_seen_subcommand_from prune" -l retry-delay -d 'Wait so long before the first retry, twice as long before each further one [default: 500ms]' -r
complete -c rpub -n "__fish_rpub_using_subcommand system; and __fish_seen_subcommand_from prune" -l max-wait -d 'Give up at once when a registry asks for a longer wait than this [default: 1m]' -r
complete -c rpub -n "__fish_rpub_using_subcommand system; and __fish_seen_subcommand_from prune" -l idle-timeout -d 'Break off when a registry does nothing for so long [default: 90s]' -r
complete -c rpub -n "__fish_rpub_using_subcommand system; and __fish_seen_subcommand_from prune" -l concurrency -d 'Move at most so many blobs at once each way [default: what the registry takes, up to 16]' -r
complete -c rpub -n "__fish_rpub_using_subcommand system; and __fish_seen_subcommand_from prune" -l limit-rate -d 'Move at most so many bytes a second, both ways together, as in 5MB' -r
complete -c rpub -n "__fish_rpub_using_subcommand system; and __fish_seen_subcommand_from prune" -l resolve -d 'Connect to this address for a registry\'s host and port (repeatable)' -r
complete -c rpub -n "__fish_rpub_using_subcommand system; and __fish_seen_subcommand_from prune" -l http-header -d 'Send this header to registries; @FILE reads lines from a file (repeatable)' -r
complete -c rpub -n "__fish_rpub_using_subcommand system; and __fish_seen_subcommand_from prune" -l user-agent-prefix -d 'Put this text before rpub\'s own in the user agent' -r
complete -c rpub -n "__fish_rpub_using_subcommand system; and __fish_seen_subcommand_from prune" -l authfile -d 'Look for logins in this file only; login and logout change it' -r -F
complete -c rpub -n "__fish_rpub_using_subcommand system; and __fish_seen_subcommand_from prune" -l src-authfile -d 'Look for logins for what is read from registries in this file only' -r -F
complete -c rpub -n "__fish_rpub_using_subcommand system; and __fish_seen_subcommand_from prune" -l dest-authfile -d 'Look for logins for what is written to registries in this file only' -r -F
complete -c rpub -n "__fish_rpub_using_subcommand system; and __fish_seen_subcommand_from prune" -l registry-token-file -d 'Send the bearer token in this file to this registry (repeatable)' -r
complete -c rpub -n "__fish_rpub_using_subcommand system; and __fish_seen_subcommand_from prune" -s a -l all -d 'Also remove what named images could be built faster with'
complete -c rpub -n "__fish_rpub_using_subcommand system; and __fish_seen_subcommand_from prune" -l dry-run -d 'Only show what would be removed'
complete -c rpub -n "__fish_rpub_using_subcommand system; and __fish_seen_subcommand_from prune" -s f -l force -d 'Do not ask'
complete -c rpub -n "__fish_rpub_using_subcommand system; and __fish_seen_subcommand_from prune" -s q -l quiet -d 'Show no progress, print only the result'
complete -c rpub -n "__fish_rpub_using_subcommand system; and __fish_seen_subcommand_from prune" -l offline -d 'Open no connection to anybody: what is here counts, as it was last seen'
complete -c rpub -n "__fish_rpub_using_subcommand system; and __fish_seen_subcommand_from prune" -s h -l help -d 'Print help'
complete -c rpub -n "__fish_rpub_using_subcommand system; and __fish_seen_subcommand_from help" -f -a "df" -d 'Show what the store takes on disk'
complete -c rpub -n "__fish_rpub_using_subcommand system; and __fish_seen_subcommand_from help" -f -a "prune" -d 'Remove what only makes later builds faster, and images without a name'
complete -c rpub -n "__fish_rpub_using_subcommand system; and __fish_seen_subcommand_from help" -f -a "help" -d 'Print this message or the help of the given subcommand(s)'
complete -c rpub -n "__fish_rpub_using_subcommand builder; and not __fish_seen_subcommand_from prune help" -l store -d 'Keep images, layers and the build cache here [default: ~/.local/share/rpub]' -r -F
complete -c rpub -n "__fish_rpub_using_subcommand builder; and not __fish_seen_subcommand_from prune help" -l cache-size -d 'Keep the build cache within this size [default: a fifth of the disk, 10 to 100 GiB]' -r
complete -c rpub -n "__fish_rpub_using_subcommand builder; and not __fish_seen_subcommand_from prune help" -l progress -d 'Show progress as auto, tty, plain, quiet or rawjson' -r -f -a "auto\t'Bars on a terminal, plain lines elsewhere'
tty\t'Bars'
plain\t'Numbered lines'
quiet\t'Nothing but warnings and errors'
rawjson\t'One JSON object a line, for programs'"
complete -c rpub -n "__fish_rpub_using_subcommand builder; and not __fish_seen_subcommand_from prune help" -l insecure-registry -d 'Allow TLS with any certificate, or else plain HTTP, for this registry (repeatable)' -r
complete -c rpub -n "__fish_rpub_using_subcommand builder; and not __fish_seen_subcommand_from prune help" -l plain-http -d 'Reach this registry by plain HTTP (repeatable)' -r
complete -c rpub -n "__fish_rpub_using_subcommand builder; and not __fish_seen_subcommand_from prune help" -l skip-tls-verify -d 'Do not verify the certificate of this registry (repeatable)' -r
complete -c rpub -n "__fish_rpub_using_subcommand builder; and not __fish_seen_subcommand_from prune help" -l ca-file -d 'Also trust the certificate authorities in this PEM file (repeatable)' -r -F
complete -c rpub -n "__fish_rpub_using_subcommand builder; and not __fish_seen_subcommand_from prune help" -l cert-dir -d 'Use the authorities (*.crt) and client certificate (*.cert, *.key) in this directory' -r -F
complete -c rpub -n "__fish_rpub_using_subcommand builder; and not __fish_seen_subcommand_from prune help" -l registries-conf -d 'Read mirrors from this file [default: containers/registries.conf in ~/.config or /etc]' -r -F
complete -c rpub -n "__fish_rpub_using_subcommand builder; and not __fish_seen_subcommand_from prune help" -l retry-times -d 'Try a failed request so many times more [default: 4]' -r
complete -c rpub -n "__fish_rpub_using_subcommand builder; and not __fish_seen_subcommand_from prune help" -l retry-delay -d 'Wait so long before the first retry, twice as long before each further one [default: 500ms]' -r
complete -c rpub -n "__fish_rpub_using_subcommand builder; and not __fish_seen_subcommand_from prune help" -l max-wait -d 'Give up at once when a registry asks for a longer wait than this [default: 1m]' -r
complete -c rpub -n "__fish_rpub_using_subcommand builder; and not __fish_seen_subcommand_from prune help" -l idle-timeout -d 'Break off when a registry does nothing for so long [default: 90s]' -r
complete -c rpub -n "__fish_rpub_using_subcommand builder; and not __fish_seen_subcommand_from prune help" -l concurrency -d 'Move at most so many blobs at once each way [default: what the registry takes, up to 16]' -r
complete -c rpub -n "__fish_rpub_using_subcommand builder; and not __fish_seen_subcommand_from prune help" -l limit-rate -d 'Move at most so many bytes a second, both ways together, as in 5MB' -r
complete -c rpub -n "__fish_rpub_using_subcommand builder; and not __fish_seen_subcommand_from prune help" -l resolve -d 'Connect to this address for a registry\'s host and port (repeatable)' -r
complete -c rpub -n "__fish_rpub_using_subcommand builder; and not __fish_seen_subcommand_from prune help" -l http-header -d 'Send this header to registries; @FILE reads lines from a file (repeatable)' -r
complete -c rpub -n "__fish_rpub_using_subcommand builder; and not __fish_seen_subcommand_from prune help" -l user-agent-prefix -d 'Put this text before rpub\'s own in the user agent' -r
complete -c rpub -n "__fish_rpub_using_subcommand builder; and not __fish_seen_subcommand_from prune help" -l authfile -d 'Look for logins in this file only; login and logout change it' -r -F
complete -c rpub -n "__fish_rpub_using_subcommand builder; and not __fish_seen_subcommand_from prune help" -l src-authfile -d 'Look for logins for what is read from registries in this file only' -r -F
complete -c rpub -n "__fish_rpub_using_subcommand builder; and not __fish_seen_subcommand_from prune help" -l dest-authfile -d 'Look for logins for what is written to registries in this file only' -r -F
complete -c rpub -n "__fish_rpub_using_subcommand builder; and not __fish_seen_subcommand_from prune help" -l registry-token-file -d 'Send the bearer token in this file to this registry (repeatable)' -r
complete -c rpub -n "__fish_rpub_using_subcommand builder; and not __fish_seen_subcommand_from prune help" -s q -l quiet -d 'Show no progress, print only the result'
complete -c rpub -n "__fish_rpub_using_subcommand builder; and not __fish_seen_subcommand_from prune help" -l offline -d 'Open no connection to anybody: what is here counts, as it was last seen'
complete -c rpub -n "__fish_rpub_using_subcommand builder; and not __fish_seen_subcommand_from prune help" -s h -l help -d 'Print help'
complete -c rpub -n "__fish_rpub_using_subcommand builder; and not __fish_seen_subcommand_from prune help" -f -a "prune" -d 'Remove what only makes later builds faster, and images without a name'
complete -c rpub -n "__fish_rpub_using_subcommand builder; and not __fish_seen_subcommand_from prune help" -f -a "help" -d 'Print this message or the help of the given subcommand(s)'
complete -c rpub -n "__fish_rpub_using_subcommand builder; and __fish_seen_subcommand_from prune" -l filter -d 'Remove only what was not used for some time: until=24h' -r
complete -c rpub -n "__fish_rpub_using_subcommand builder; and __fish_seen_subcommand_from prune" -l max-used-space -l keep-storage -d 'Keep what was used last, up to this size: 10GB' -r
complete -c rpub -n "__fish_rpub_using_subcommand builder; and __fish_seen_subcommand_from prune" -l store -d 'Keep images, layers and the build cache here [default: ~/.local/share/rpub]' -r -F
complete -c rpub -n "__fish_rpub_using_subcommand builder; and __fish_seen_subcommand_from prune" -l cache-size -d 'Keep the build cache within this size [default: a fifth of the disk, 10 to 100 GiB]' -r
complete -c rpub -n "__fish_rpub_using_subcommand builder; and __fish_seen_subcommand_from prune" -l progress -d 'Show progress as auto, tty, plain, quiet or rawjson' -r -f -a "auto\t'Bars on a terminal, plain lines elsewhere'
tty\t'Bars'
plain\t'Numbered lines'
quiet\t'Nothing but warnings and errors'
rawjson\t'One JSON object a line, for programs'"
complete -c rpub -n "__fish_rpub_using_subcommand builder; and __fish_seen_subcommand_from prune" -l insecure-registry -d 'Allow TLS with any certificate, or else plain HTTP, for this registry (repeatable)' -r
complete -c rpub -n "__fish_rpub_using_subcommand builder; and __fish_seen_subcommand_from prune" -l plain-http -d 'Reach this registry by plain HTTP (repeatable)' -r
complete -c rpub -n "__fish_rpub_using_subcommand builder; and __fish_seen_subcommand_from prune" -l skip-tls-verify -d 'Do not verify the certificate of this registry (repeatable)' -r
complete -c rpub -n "__fish_rpub_using_subcommand builder; and __fish_seen_subcommand_from prune" -l ca-file -d 'Also trust the certificate authorities in this PEM file (repeatable)' -r -F
complete -c rpub -n "__fish_rpub_using_subcommand builder; and __fish_seen_subcommand_from prune" -l cert-dir -d 'Use the authorities (*.crt) and client certificate (*.cert, *.key) in this directory' -r -F
complete -c rpub -n "__fish_rpub_using_subcommand builder; and __fish_seen_subcommand_from prune" -l registries-conf -d 'Read mirrors from this file [default: containers/registries.conf in ~/.config or /etc]' -r -F
complete -c rpub -n "__fish_rpub_using_subcommand builder; and __fish_seen_subcommand_from prune" -l retry-times -d 'Try a failed request so many times more [default: 4]' -r
complete -c rpub -n "__fish_rpub_using_subcommand builder; and __fish_seen_subcommand_from prune" -l retry-delay -d 'Wait so long before the first retry, twice as long before each further one [default: 500ms]' -r
complete -c rpub -n "__fish_rpub_using_subcommand builder; and __fish_seen_subcommand_from prune" -l max-wait -d 'Give up at once when a registry asks for a longer wait than this [default: 1m]' -r
complete -c rpub -n "__fish_rpub_using_subcommand builder; and __fish_seen_subcommand_from prune" -l idle-timeout -d 'Break off when a registry does nothing for so long [default: 90s]' -r
complete -c rpub -n "__fish_rpub_using_subcommand builder; and __fish_seen_subcommand_from prune" -l concurrency -d 'Move at most so many blobs at once each way [default: what the registry takes, up to 16]' -r
complete -c rpub -n "__fish_rpub_using_subcommand builder; and __fish_seen_subcommand_from prune" -l limit-rate -d 'Move at most so many bytes a second, both ways together, as in 5MB' -r
complete -c rpub -n "__fish_rpub_using_subcommand builder; and __fish_seen_subcommand_from prune" -l resolve -d 'Connect to this address for a registry\'s host and port (repeatable)' -r
complete -c rpub -n "__fish_rpub_using_subcommand builder; and __fish_seen_subcommand_from prune" -l http-header -d 'Send this header to registries; @FILE reads lines from a file (repeatable)' -r
complete -c rpub -n "__fish_rpub_using_subcommand builder; and __fish_seen_subcommand_from prune" -l user-agent-prefix -d 'Put this text before rpub\'s own in the user agent' -r
complete -c rpub -n "__fish_rpub_using_subcommand builder; and __fish_seen_subcommand_from prune" -l authfile -d 'Look for logins in this file only; login and logout change it' -r -F
complete -c rpub -n "__fish_rpub_using_subcommand builder; and __fish_seen_subcommand_from prune" -l src-authfile -d 'Look for logins for what is read from registries in this file only' -r -F
complete -c rpub -n "__fish_rpub_using_subcommand builder; and __fish_seen_subcommand_from prune" -l dest-authfile -d 'Look for logins for what is written to registries in this file only' -r -F
complete -c rpub -n "__fish_rpub_using_subcommand builder; and __fish_seen_subcommand_from prune" -l registry-token-file -d 'Send the bearer token in this file to this registry (repeatable)' -r
complete -c rpub -n "__fish_rpub_using_subcommand builder; and __fish_seen_subcommand_from prune" -s a -l all -d 'Also remove what named images could be built faster with'
complete -c rpub -n "__fish_rpub_using_subcommand builder; and __fish_seen_subcommand_from prune" -l dry-run -d 'Only show what would be removed'
complete -c rpub -n "__fish_rpub_using_subcommand builder; and __fish_seen_subcommand_from prune" -s f -l force -d 'Do not ask'
complete -c rpub -n "__fish_rpub_using_subcommand builder; and __fish_seen_subcommand_from prune" -s q -l quiet -d 'Show no progress, print only the result'
complete -c rpub -n "__fish_rpub_using_subcommand builder; and __fish_seen_subcommand_from prune" -l offline -d 'Open no connection to anybody: what is here counts, as it was last seen'
complete -c rpub -n "__fish_rpub_using_subcommand builder; and __fish_seen_subcommand_from prune" -s h -l help -d 'Print help'
complete -c rpub -n "__fish_rpub_using_subcommand builder; and __fish_seen_subcommand_from help" -f -a "prune" -d 'Remove what only makes later builds faster, and images without a name'
complete -c rpub -n "__fish_rpub_using_subcommand builder; and __fish_seen_subcommand_from help" -f -a "help" -d 'Print this message or the help of the given subcommand(s)'
complete -c rpub -n "__fish_rpub_using_subcommand login" -s u -l username -d 'User name' -r
complete -c rpub -n "__fish_rpub_using_subcommand login" -s p -l password -d 'Password or token, which others can see: prefer --password-stdin' -r
complete -c rpub -n "__fish_rpub_using_subcommand login" -l compat-auth-file -d 'Save in this file, in docker\'s form' -r -F
complete -c rpub -n "__fish_rpub_using_subcommand login" -l store -d 'Keep images, layers and the build cache here [default: ~/.local/share/rpub]' -r -F
complete -c rpub -n "__fish_rpub_using_subcommand login" -l cache-size -d 'Keep the build cache within this size [default: a fifth of the disk, 10 to 100 GiB]' -r
complete -c rpub -n "__fish_rpub_using_subcommand login" -l progress -d 'Show progress as auto, tty, plain, quiet or rawjson' -r -f -a "auto\t'Bars on a terminal, plain lines elsewhere'
tty\t'Bars'
plain\t'Numbered lines'
quiet\t'Nothing but warnings and errors'
rawjson\t'One JSON object a line, for programs'"
complete -c rpub -n "__fish_rpub_using_subcommand login" -l insecure-registry -d 'Allow TLS with any certificate, or else plain HTTP, for this registry (repeatable)' -r
complete -c rpub -n "__fish_rpub_using_subcommand login" -l plain-http -d 'Reach this registry by plain HTTP (repeatable)' -r
complete -c rpub -n "__fish_rpub_using_subcommand login" -l skip-tls-verify -d 'Do not verify the certificate of this registry (repeatable)' -r
complete -c rpub -n "__fish_rpub_using_subcommand login" -l ca-file -d 'Also trust the certificate authorities in this PEM file (repeatable)' -r -F
complete -c rpub -n "__fish_rpub_using_subcommand login" -l cert-dir -d 'Use the authorities (*.crt) and client certificate (*.cert, *.key) in this directory' -r -F
complete -c rpub -n "__fish_rpub_using_subcommand login" -l registries-conf -d 'Read mirrors from this file [default: containers/registries.conf in ~/.config or /etc]' -r -F
complete -c rpub -n "__fish_rpub_using_subcommand login" -l retry-times -d 'Try a failed request so many times more [default: 4]' -r
complete -c rpub -n "__fish_rpub_using_subcommand login" -l retry-delay -d 'Wait so long before the first retry, twice as long before each further one [default: 500ms]' -r
complete -c rpub -n "__fish_rpub_using_subcommand login" -l max-wait -d 'Give up at once when a registry asks for a longer wait than this [default: 1m]' -r
complete -c rpub -n "__fish_rpub_using_subcommand login" -l idle-timeout -d 'Break off when a registry does nothing for so long [default: 90s]' -r
complete -c rpub -n "__fish_rpub_using_subcommand login" -l concurrency -d 'Move at most so many blobs at once each way [default: what the registry takes, up to 16]' -r
complete -c rpub -n "__fish_rpub_using_subcommand login" -l limit-rate -d 'Move at most so many bytes a second, both ways together, as in 5MB' -r
complete -c rpub -n "__fish_rpub_using_subcommand login" -l resolve -d 'Connect to this address for a registry\'s host and port (repeatable)' -r
complete -c rpub -n "__fish_rpub_using_subcommand login" -l http-header -d 'Send this header to registries; @FILE reads lines from a file (repeatable)' -r
complete -c rpub -n "__fish_rpub_using_subcommand login" -l user-agent-prefix -d 'Put this text before rpub\'s own in the user agent' -r
complete -c rpub -n "__fish_rpub_using_subcommand login" -l authfile -d 'Look for logins in this file only; login and logout change it' -r -F
complete -c rpub -n "__fish_rpub_using_subcommand login" -l src-authfile -d 'Look for logins for what is read from registries in this file only' -r -F
complete -c rpub -n "__fish_rpub_using_subcommand login" -l dest-authfile -d 'Look for logins for what is written to registries in this file only' -r -F
complete -c rpub -n "__fish_rpub_using_subcommand login" -l registry-token-file -d 'Send the bearer token in this file to this registry (repeatable)' -r
complete -c rpub -n "__fish_rpub_using_subcommand login" -l password-stdin -d 'Read the password from standard input'
complete -c rpub -n "__fish_rpub_using_subcommand login" -l no-verify -d 'Do not ask the registry whether the credentials are right'
complete -c rpub -n "__fish_rpub_using_subcommand login" -l keyring -d 'Keep the password in the desktop\'s keyring, or the kernel\'s'
complete -c rpub -n "__fish_rpub_using_subcommand login" -l get-login -d 'Only print the user that is logged in'
complete -c rpub -n "__fish_rpub_using_subcommand login" -s q -l quiet -d 'Show no progress, print only the result'
complete -c rpub -n "__fish_rpub_using_subcommand login" -l offline -d 'Open no connection to anybody: what is here counts, as it was last seen'
complete -c rpub -n "__fish_rpub_using_subcommand login" -s h -l help -d 'Print help'
complete -c rpub -n "__fish_rpub_using_subcommand logout" -l compat-auth-file -d 'Erase from this file, which has docker\'s form' -r -F
complete -c rpub -n "__fish_rpub_using_subcommand logout" -l store -d 'Keep images, layers and the build cache here [default: ~/.local/share/rpub]' -r -F
complete -c rpub -n "__fish_rpub_using_subcommand logout" -l cache-size -d 'Keep the build cache within this size [default: a fifth of the disk, 10 to 100 GiB]' -r
complete -c rpub -n "__fish_rpub_using_subcommand logout" -l progress -d 'Show progress as auto, tty, plain, quiet or rawjson' -r -f -a "auto\t'Bars on a terminal, plain lines elsewhere'
tty\t'Bars'
plain\t'Numbered lines'
quiet\t'Nothing but warnings and errors'
rawjson\t'One JSON object a line, for programs'"
complete -c rpub -n "__fish_rpub_using_subcommand logout" -l insecure-registry -d 'Allow TLS with any certificate, or else plain HTTP, for this registry (repeatable)' -r
complete -c rpub -n "__fish_rpub_using_subcommand logout" -l plain-http -d 'Reach this registry by plain HTTP (repeatable)' -r
complete -c rpub -n "__fish_rpub_using_subcommand logout" -l skip-tls-verify -d 'Do not verify the certificate of this registry (repeatable)' -r
complete -c rpub -n "__fish_rpub_using_subcommand logout" -l ca-file -d 'Also trust the certificate authorities in this PEM file (repeatable)' -r -F
complete -c rpub -n "__fish_rpub_using_subcommand logout" -l cert-dir -d 'Use the authorities (*.crt) and client certificate (*.cert, *.key) in this directory' -r -F
complete -c rpub -n "__fish_rpub_using_subcommand logout" -l registries-conf -d 'Read mirrors from this file [default: containers/registries.conf in ~/.config or /etc]' -r -F
complete -c rpub -n "__fish_rpub_using_subcommand logout" -l retry-times -d 'Try a failed request so many times more [default: 4]' -r
complete -c rpub -n "__fish_rpub_using_subcommand logout" -l retry-delay -d 'Wait so long before the first retry, twice as long before each further one [default: 500ms]' -r
complete -c rpub -n "__fish_rpub_using_subcommand logout" -l max-wait -d 'Give up at once when a registry asks for a longer wait than this [default: 1m]' -r
complete -c rpub -n "__fish_rpub_using_subcommand logout" -l idle-timeout -d 'Break off when a registry does nothing for so long [default: 90s]' -r
complete -c rpub -n "__fish_rpub_using_subcommand logout" -l concurrency -d 'Move at most so many blobs at once each way [default: what the registry takes, up to 16]' -r
complete -c rpub -n "__fish_rpub_using_subcommand logout" -l limit-rate -d 'Move at most so many bytes a second, both ways together, as in 5MB' -r
complete -c rpub -n "__fish_rpub_using_subcommand logout" -l resolve -d 'Connect to this address for a registry\'s host and port (repeatable)' -r
complete -c rpub -n "__fish_rpub_using_subcommand logout" -l http-header -d 'Send this header to registries; @FILE reads lines from a file (repeatable)' -r
complete -c rpub -n "__fish_rpub_using_subcommand logout" -l user-agent-prefix -d 'Put this text before rpub\'s own in the user agent' -r
complete -c rpub -n "__fish_rpub_using_subcommand logout" -l authfile -d 'Look for logins in this file only; login and logout change it' -r -F
complete -c rpub -n "__fish_rpub_using_subcommand logout" -l src-authfile -d 'Look for logins for what is read from registries in this file only' -r -F
complete -c rpub -n "__fish_rpub_using_subcommand logout" -l dest-authfile -d 'Look for logins for what is written to registries in this file only' -r -F
complete -c rpub -n "__fish_rpub_using_subcommand logout" -l registry-token-file -d 'Send the bearer token in this file to this registry (repeatable)' -r
complete -c rpub -n "__fish_rpub_using_subcommand logout" -s a -l all -d 'Log out of every registry'
complete -c rpub -n "__fish_rpub_using_subcommand logout" -s q -l quiet -d 'Show no progress, print only the result'
complete -c rpub -n "__fish_rpub_using_subcommand logout" -l offline -d 'Open no connection to anybody: what is here counts, as it was last seen'
complete -c rpub -n "__fish_rpub_using_subcommand logout" -s h -l help -d 'Print help'
complete -c rpub -n "__fish_rpub_using_subcommand whoami" -l format -d 'Print json, the template given, or with table before it a table: \'table {{.ID}}\'' -r
complete -c rpub -n "__fish_rpub_using_subcommand whoami" -l store -d 'Keep images, layers and the build cache here [default: ~/.local/share/rpub]' -r -F
complete -c rpub -n "__fish_rpub_using_subcommand whoami" -l cache-size -d 'Keep the build cache within this size [default: a fifth of the disk, 10 to 100 GiB]' -r
complete -c rpub -n "__fish_rpub_using_subcommand whoami" -l progress -d 'Show progress as auto, tty, plain, quiet or rawjson' -r -f -a "auto\t'Bars on a terminal, plain lines elsewhere'
tty\t'Bars'
plain\t'Numbered lines'
quiet\t'Nothing but warnings and errors'
rawjson\t'One JSON object a line, for programs'"
complete -c rpub -n "__fish_rpub_using_subcommand whoami" -l insecure-registry -d 'Allow TLS with any certificate, or else plain HTTP, for this registry (repeatable)' -r
complete -c rpub -n "__fish_rpub_using_subcommand whoami" -l plain-http -d 'Reach this registry by plain HTTP (repeatable)' -r
complete -c rpub -n "__fish_rpub_using_subcommand whoami" -l skip-tls-verify -d 'Do not verify the certificate of this registry (repeatable)' -r
complete -c rpub -n "__fish_rpub_using_subcommand whoami" -l ca-file -d 'Also trust the certificate authorities in this PEM file (repeatable)' -r -F
complete -c rpub -n "__fish_rpub_using_subcommand whoami" -l cert-dir -d 'Use the authorities (*.crt) and client certificate (*.cert, *.key) in this directory' -r -F
complete -c rpub -n "__fish_rpub_using_subcommand whoami" -l registries-conf -d 'Read mirrors from this file [default: containers/registries.conf in ~/.config or /etc]' -r -F
complete -c rpub -n "__fish_rpub_using_subcommand whoami" -l retry-times -d 'Try a failed request so many times more [default: 4]' -r
complete -c rpub -n "__fish_rpub_using_subcommand whoami" -l retry-delay -d 'Wait so long before the first retry, twice as long before each further one [default: 500ms]' -r
complete -c rpub -n "__fish_rpub_using_subcommand whoami" -l max-wait -d 'Give up at once when a registry asks for a longer wait than this [default: 1m]' -r
complete -c rpub -n "__fish_rpub_using_subcommand whoami" -l idle-timeout -d 'Break off when a registry does nothing for so long [default: 90s]' -r
complete -c rpub -n "__fish_rpub_using_subcommand whoami" -l concurrency -d 'Move at most so many blobs at once each way [default: what the registry takes, up to 16]' -r
complete -c rpub -n "__fish_rpub_using_subcommand whoami" -l limit-rate -d 'Move at most so many bytes a second, both ways together, as in 5MB' -r
complete -c rpub -n "__fish_rpub_using_subcommand whoami" -l resolve -d 'Connect to this address for a registry\'s host and port (repeatable)' -r
complete -c rpub -n "__fish_rpub_using_subcommand whoami" -l http-header -d 'Send this header to registries; @FILE reads lines from a file (repeatable)' -r
complete -c rpub -n "__fish_rpub_using_subcommand whoami" -l user-agent-prefix -d 'Put this text before rpub\'s own in the user agent' -r
complete -c rpub -n "__fish_rpub_using_subcommand whoami" -l authfile -d 'Look for logins in this file only; login and logout change it' -r -F
complete -c rpub -n "__fish_rpub_using_subcommand whoami" -l src-authfile -d 'Look for logins for what is read from registries in this file only' -r -F
complete -c rpub -n "__fish_rpub_using_subcommand whoami" -l dest-authfile -d 'Look for logins for what is written to registries in this file only' -r -F
complete -c rpub -n "__fish_rpub_using_subcommand whoami" -l registry-token-file -d 'Send the bearer token in this file to this registry (repeatable)' -r
complete -c rpub -n "__fish_rpub_using_subcommand whoami" -s q -l quiet -d 'Show no progress, print only the result'
complete -c rpub -n "__fish_rpub_using_subcommand whoami" -l offline -d 'Open no connection to anybody: what is here counts, as it was last seen'
complete -c rpub -n "__fish_rpub_using_subcommand whoami" -s h -l help -d 'Print help'
complete -c rpub -n "__fish_rpub_using_subcommand auth; and not __fish_seen_subcommand_from explain token help" -l store -d 'Keep images, layers and the build cache here [default: ~/.local/share/rpub]' -r -F
complete -c rpub -n "__fish_rpub_using_subcommand auth; and not __fish_seen_subcommand_from explain token help" -l cache-size -d 'Keep the build cache within this size [default: a fifth of the disk, 10 to 100 GiB]' -r
complete -c rpub -n "__fish_rpub_using_subcommand auth; and not __fish_seen_subcommand_from explain token help" -l progress -d 'Show progress as auto, tty, plain, quiet or rawjson' -r -f -a "auto\t'Bars on a terminal, plain lines elsewhere'
tty\t'Bars'
plain\t'Numbered lines'
quiet\t'Nothing but warnings and errors'
rawjson\t'One JSON object a line, for programs'"
complete -c rpub -n "__fish_rpub_using_subcommand auth; and not __fish_seen_subcommand_from explain token help" -l insecure-registry -d 'Allow TLS with any certificate, or else plain HTTP, for this registry (repeatable)' -r
complete -c rpub -n "__fish_rpub_using_subcommand auth; and not __fish_seen_subcommand_from explain token help" -l plain-http -d 'Reach this registry by plain HTTP (repeatable)' -r
complete -c rpub -n "__fish_rpub_using_subcommand auth; and not __fish_seen_subcommand_from explain token help" -l skip-tls-verify -d 'Do not verify the certificate of this registry (repeatable)' -r
complete -c rpub -n "__fish_rpub_using_subcommand auth; and not __fish_seen_subcommand_from explain token help" -l ca-file -d 'Also trust the certificate authorities in this PEM file (repeatable)' -r -F
complete -c rpub -n "__fish_rpub_using_subcommand auth; and not __fish_seen_subcommand_from explain token help" -l cert-dir -d 'Use the authorities (*.crt) and client certificate (*.cert, *.key) in this directory' -r -F
complete -c rpub -n "__fish_rpub_using_subcommand auth; and not __fish_seen_subcommand_from explain token help" -l registries-conf -d 'Read mirrors from this file [default: containers/registries.conf in ~/.config or /etc]' -r -F
complete -c rpub -n "__fish_rpub_using_subcommand auth; and not __fish_seen_subcommand_from explain token help" -l retry-times -d 'Try a failed request so many times more [default: 4]' -r
complete -c rpub -n "__fish_rpub_using_subcommand auth; and not __fish_seen_subcommand_from explain token help" -l retry-delay -d 'Wait so long before the first retry, twice as long before each further one [default: 500ms]' -r
complete -c rpub -n "__fish_rpub_using_subcommand auth; and not __fish_seen_subcommand_from explain token help" -l max-wait -d 'Give up at once when a registry asks for a longer wait than this [default: 1m]' -r
complete -c rpub -n "__fish_rpub_using_subcommand auth; and not __fish_seen_subcommand_from explain token help" -l idle-timeout -d 'Break off when a registry does nothing for so long [default: 90s]' -r
complete -c rpub -n "__fish_rpub_using_subcommand auth; and not __fish_seen_subcommand_from explain token help" -l concurrency -d 'Move at most so many blobs at once each way [default: what the registry takes, up to 16]' -r
complete -c rpub -n "__fish_rpub_using_subcommand auth; and not __fish_seen_subcommand_from explain token help" -l limit-rate -d 'Move at most so many bytes a second, both ways together, as in 5MB' -r
complete -c rpub -n "__fish_rpub_using_subcommand auth; and not __fish_seen_subcommand_from explain token help" -l resolve -d 'Connect to this address for a registry\'s host and port (repeatable)' -r
complete -c rpub -n "__fish_rpub_using_subcommand auth; and not __fish_seen_subcommand_from explain token help" -l http-header -d 'Send this header to registries; @FILE reads lines from a file (repeatable)' -r
complete -c rpub -n "__fish_rpub_using_subcommand auth; and not __fish_seen_subcommand_from explain token help" -l user-agent-prefix -d 'Put this text before rpub\'s own in the user agent' -r
complete -c rpub -n "__fish_rpub_using_subcommand auth; and not __fish_seen_subcommand_from explain token help" -l authfile -d 'Look for logins in this file only; login and logout change it' -r -F
complete -c rpub -n "__fish_rpub_using_subcommand auth; and not __fish_seen_subcommand_from explain token help" -l src-authfile -d 'Look for logins for what is read from registries in this file only' -r -F
complete -c rpub -n "__fish_rpub_using_subcommand auth; and not __fish_seen_subcommand_from explain token help" -l dest-authfile -d 'Look for logins for what is written to registries in this file only' -r -F
complete -c rpub -n "__fish_rpub_using_subcommand auth; and not __fish_seen_subcommand_from explain token help" -l registry-token-file -d 'Send the bearer token in this file to this registry (repeatable)' -r
complete -c rpub -n "__fish_rpub_using_subcommand auth; and not __fish_seen_subcommand_from explain token help" -s q -l quiet -d 'Show no progress, print only the result'
complete -c rpub -n "__fish_rpub_using_subcommand auth; and not __fish_seen_subcommand_from explain token help" -l offline -d 'Open no connection to anybody: what is here counts, as it was last seen'
complete -c rpub -n "__fish_rpub_using_subcommand auth; and not __fish_seen_subcommand_from explain token help" -s h -l help -d 'Print help'
complete -c rpub -n "__fish_rpub_using_subcommand auth; and not __fish_seen_subcommand_from explain token help" -f -a "explain" -d 'Show where credentials for an image are looked for, and which are used'
complete -c rpub -n "__fish_rpub_using_subcommand auth; and not __fish_seen_subcommand_from explain token help" -f -a "token" -d 'Print a token for an image\'s repository'
complete -c rpub -n "__fish_rpub_using_subcommand auth; and not __fish_seen_subcommand_from explain token help" -f -a "help" -d 'Print this message or the help of the given subcommand(s)'
complete -c rpub -n "__fish_rpub_using_subcommand auth; and __fish_seen_subcommand_from explain" -l format -d 'Print json, the template given, or with table before it a table: \'table {{.ID}}\'' -r
complete -c rpub -n "__fish_rpub_using_subcommand auth; and __fish_seen_subcommand_from explain" -l store -d 'Keep images, layers and the build cache here [default: ~/.local/share/rpub]' -r -F
complete -c rpub -n "__fish_rpub_using_subcommand auth; and __fish_seen_subcommand_from explain" -l cache-size -d 'Keep the build cache within this size [default: a fifth of the disk, 10 to 100 GiB]' -r
complete -c rpub -n "__fish_rpub_using_subcommand auth; and __fish_seen_subcommand_from explain" -l progress -d 'Show progress as auto, tty, plain, quiet or rawjson' -r -f -a "auto\t'Bars on a terminal, plain lines elsewhere'
tty\t'Bars'
plain\t'Numbered lines'
quiet\t'Nothing but warnings and errors'
rawjson\t'One JSON object a line, for programs'"
complete -c rpub -n "__fish_rpub_using_subcommand auth; and __fish_seen_subcommand_from explain" -l insecure-registry -d 'Allow TLS with any certificate, or else plain HTTP, for this registry (repeatable)' -r
complete -c rpub -n "__fish_rpub_using_subcommand auth; and __fish_seen_subcommand_from explain" -l plain-http -d 'Reach this registry by plain HTTP (repeatable)' -r
complete -c rpub -n "__fish_rpub_using_subcommand auth; and __fish_seen_subcommand_from explain" -l skip-tls-verify -d 'Do not verify the certificate of this registry (repeatable)' -r
complete -c rpub -n "__fish_rpub_using_subcommand auth; and __fish_seen_subcommand_from explain" -l ca-file -d 'Also trust the certificate authorities in this PEM file (repeatable)' -r -F
complete -c rpub -n "__fish_rpub_using_subcommand auth; and __fish_seen_subcommand_from explain" -l cert-dir -d 'Use the authorities (*.crt) and client certificate (*.cert, *.key) in this directory' -r -F
complete -c rpub -n "__fish_rpub_using_subcommand auth; and __fish_seen_subcommand_from explain" -l registries-conf -d 'Read mirrors from this file [default: containers/registries.conf in ~/.config or /etc]' -r -F
complete -c rpub -n "__fish_rpub_using_subcommand auth; and __fish_seen_subcommand_from explain" -l retry-times -d 'Try a failed request so many times more [default: 4]' -r
complete -c rpub -n "__fish_rpub_using_subcommand auth; and __fish_seen_subcommand_from explain" -l retry-delay -d 'Wait so long before the first retry, twice as long before each further one [default: 500ms]' -r
complete -c rpub -n "__fish_rpub_using_subcommand auth; and __fish_seen_subcommand_from explain" -l max-wait -d 'Give up at once when a registry asks for a longer wait than this [default: 1m]' -r
complete -c rpub -n "__fish_rpub_using_subcommand auth; and __fish_seen_subcommand_from explain" -l idle-timeout -d 'Break off when a registry does nothing for so long [default: 90s]' -r
complete -c rpub -n "__fish_rpub_using_subcommand auth; and __fish_seen_subcommand_from explain" -l concurrency -d 'Move at most so many blobs at once each way [default: what the registry takes, up to 16]' -r
complete -c rpub -n "__fish_rpub_using_subcommand auth; and __fish_seen_subcommand_from explain" -l limit-rate -d 'Move at most so many bytes a second, both ways together, as in 5MB' -r
complete -c rpub -n "__fish_rpub_using_subcommand auth; and __fish_seen_subcommand_from explain" -l resolve -d 'Connect to this address for a registry\'s host and port (repeatable)' -r
complete -c rpub -n "__fish_rpub_using_subcommand auth; and __fish_seen_subcommand_from explain" -l http-header -d 'Send this header to registries; @FILE reads lines from a file (repeatable)' -r
complete -c rpub -n "__fish_rpub_using_subcommand auth; and __fish_seen_subcommand_from explain" -l user-agent-prefix -d 'Put this text before rpub\'s own in the user agent' -r
complete -c rpub -n "__fish_rpub_using_subcommand auth; and __fish_seen_subcommand_from explain" -l authfile -d 'Look for logins in this file only; login and logout change it' -r -F
complete -c rpub -n "__fish_rpub_using_subcommand auth; and __fish_seen_subcommand_from explain" -l src-authfile -d 'Look for logins for what is read from registries in this file only' -r -F
complete -c rpub -n "__fish_rpub_using_subcommand auth; and __fish_seen_subcommand_from explain" -l dest-authfile -d 'Look for logins for what is written to registries in this file only' -r -F
complete -c rpub -n "__fish_rpub_using_subcommand auth; and __fish_seen_subcommand_from explain" -l registry-token-file -d 'Send the bearer token in this file to this registry (repeatable)' -r
complete -c rpub -n "__fish_rpub_using_subcommand auth; and __fish_seen_subcommand_from explain" -l push -d 'Show those for pushing'
complete -c rpub -n "__fish_rpub_using_subcommand auth; and __fish_seen_subcommand_from explain" -s q -l quiet -d 'Show no progress, print only the result'
complete -c rpub -n "__fish_rpub_using_subcommand auth; and __fish_seen_subcommand_from explain" -l offline -d 'Open no connection to anybody: what is here counts, as it was last seen'
complete -c rpub -n "__fish_rpub_using_subcommand auth; and __fish_seen_subcommand_from explain" -s h -l help -d 'Print help'
complete -c rpub -n "__fish_rpub_using_subcommand auth; and __fish_seen_subcommand_from token" -l store -d 'Keep images, layers and the build cache here [default: ~/.local/share/rpub]' -r -F
complete -c rpub -n "__fish_rpub_using_subcommand auth; and __fish_seen_subcommand_from token" -l cache-size -d 'Keep the build cache within this size [default: a fifth of the disk, 10 to 100 GiB]' -r
complete -c rpub -n "__fish_rpub_using_subcommand auth; and __fish_seen_subcommand_from token" -l progress -d 'Show progress as auto, tty, plain, quiet or rawjson' -r -f -a "auto\t'Bars on a terminal, plain lines elsewhere'
tty\t'Bars'
plain\t'Numbered lines'
quiet\t'Nothing but warnings and errors'
rawjson\t'One JSON object a line, for programs'"
complete -c rpub -n "__fish_rpub_using_subcommand auth; and __fish_seen_subcommand_from token" -l insecure-registry -d 'Allow TLS with any certificate, or else plain HTTP, for this registry (repeatable)' -r
complete -c rpub -n "__fish_rpub_using_subcommand auth; and __fish_seen_subcommand_from token" -l plain-http -d 'Reach this registry by plain HTTP (repeatable)' -r
complete -c rpub -n "__fish_rpub_using_subcommand auth; and __fish_seen_subcommand_from token" -l skip-tls-verify -d 'Do not verify the certificate of this registry (repeatable)' -r
complete -c rpub -n "__fish_rpub_using_subcommand auth; and __fish_seen_subcommand_from token" -l ca-file -d 'Also trust the certificate authorities in this PEM file (repeatable)' -r -F
complete -c rpub -n "__fish_rpub_using_subcommand auth; and __fish_seen_subcommand_from token" -l cert-dir -d 'Use the authorities (*.crt) and client certificate (*.cert, *.key) in this directory' -r -F
complete -c rpub -n "__fish_rpub_using_subcommand auth; and __fish_seen_subcommand_from token" -l registries-conf -d 'Read mirrors from this file [default: containers/registries.conf in ~/.config or /etc]' -r -F
complete -c rpub -n "__fish_rpub_using_subcommand auth; and __fish_seen_subcommand_from token" -l retry-times -d 'Try a failed request so many times more [default: 4]' -r
complete -c rpub -n "__fish_rpub_using_subcommand auth; and __fish_seen_subcommand_from token" -l retry-delay -d 'Wait so long before the first retry, twice as long before each further one [default: 500ms]' -r
complete -c rpub -n "__fish_rpub_using_subcommand auth; and __fish_seen_subcommand_from token" -l max-wait -d 'Give up at once when a registry asks for a longer wait than this [default: 1m]' -r
complete -c rpub -n "__fish_rpub_using_subcommand auth; and __fish_seen_subcommand_from token" -l idle-timeout -d 'Break off when a registry does nothing for so long [default: 90s]' -r
complete -c rpub -n "__fish_rpub_using_subcommand auth; and __fish_seen_subcommand_from token" -l concurrency -d 'Move at most so many blobs at once each way [default: what the registry takes, up to 16]' -r
complete -c rpub -n "__fish_rpub_using_subcommand auth; and __fish_seen_subcommand_from token" -l limit-rate -d 'Move at most so many bytes a second, both ways together, as in 5MB' -r
complete -c rpub -n "__fish_rpub_using_subcommand auth; and __fish_seen_subcommand_from token" -l resolve -d 'Connect to this address for a registry\'s host and port (repeatable)' -r
complete -c rpub -n "__fish_rpub_using_subcommand auth; and __fish_seen_subcommand_from token" -l http-header -d 'Send this header to registries; @FILE reads lines from a file (repeatable)' -r
complete -c rpub -n "__fish_rpub_using_subcommand auth; and __fish_seen_subcommand_from token" -l user-agent-prefix -d 'Put this text before rpub\'s own in the user agent' -r
complete -c rpub -n "__fish_rpub_using_subcommand auth; and __fish_seen_subcommand_from token" -l authfile -d 'Look for logins in this file only; login and logout change it' -r -F
complete -c rpub -n "__fish_rpub_using_subcommand auth; and __fish_seen_subcommand_from token" -l src-authfile -d 'Look for logins for what is read from registries in this file only' -r -F
complete -c rpub -n "__fish_rpub_using_subcommand auth; and __fish_seen_subcommand_from token" -l dest-authfile -d 'Look for logins for what is written to registries in this file only' -r -F
complete -c rpub -n "__fish_rpub_using_subcommand auth; and __fish_seen_subcommand_from token" -l registry-token-file -d 'Send the bearer token in this file to this registry (repeatable)' -r
complete -c rpub -n "__fish_rpub_using_subcommand auth; and __fish_seen_subcommand_from token" -l push -d 'Ask for a token that may push, too'
complete -c rpub -n "__fish_rpub_using_subcommand auth; and __fish_seen_subcommand_from token" -s H -l header -d 'Print the whole header, as in curl -H "$(rpub auth token -H NAME)" URL'
complete -c rpub -n "__fish_rpub_using_subcommand auth; and __fish_seen_subcommand_from token" -s q -l quiet -d 'Show no progress, print only the result'
complete -c rpub -n "__fish_rpub_using_subcommand auth; and __fish_seen_subcommand_from token" -l offline -d 'Open no connection to anybody: what is here counts, as it was last seen'
complete -c rpub -n "__fish_rpub_using_subcommand auth; and __fish_seen_subcommand_from token" -s h -l help -d 'Print help'
complete -c rpub -n "__fish_rpub_using_subcommand auth; and __fish_seen_subcommand_from help" -f -a "explain" -d 'Show where credentials for an image are looked for, and which are used'
complete -c rpub -n "__fish_rpub_using_subcommand auth; and __fish_seen_subcommand_from help" -f -a "token" -d 'Print a token for an image\'s repository'
complete -c rpub -n "__fish_rpub_using_subcommand auth; and __fish_seen_subcommand_from help" -f -a "help" -d 'Print this message or the help of the given subcommand(s)'
complete -c rpub -n "__fish_rpub_using_subcommand digest" -l platform -d 'Of an index, take the manifest for this platform' -r
complete -c rpub -n "__fish_rpub_using_subcommand digest" -l format -d 'Print json, the template given, or with table before it a table: \'table {{.ID}}\'' -r
complete -c rpub -n "__fish_rpub_using_subcommand digest" -l store -d 'Keep images, layers and the build cache here [default: ~/.local/share/rpub]' -r -F
complete -c rpub -n "__fish_rpub_using_subcommand digest" -l cache-size -d 'Keep the build cache within this size [default: a fifth of the disk, 10 to 100 GiB]' -r
complete -c rpub -n "__fish_rpub_using_subcommand digest" -l progress -d 'Show progress as auto, tty, plain, quiet or rawjson' -r -f -a "auto\t'Bars on a terminal, plain lines elsewhere'
tty\t'Bars'
plain\t'Numbered lines'
quiet\t'Nothing but warnings and errors'
rawjson\t'One JSON object a line, for programs'"
complete -c rpub -n "__fish_rpub_using_subcommand digest" -l insecure-registry -d 'Allow TLS with any certificate, or else plain HTTP, for this registry (repeatable)' -r
complete -c rpub -n "__fish_rpub_using_subcommand digest" -l plain-http -d 'Reach this registry by plain HTTP (repeatable)' -r
complete -c rpub -n "__fish_rpub_using_subcommand digest" -l skip-tls-verify -d 'Do not verify the certificate of this registry (repeatable)' -r
complete -c rpub -n "__fish_rpub_using_subcommand digest" -l ca-file -d 'Also trust the certificate authorities in this PEM file (repeatable)' -r -F
complete -c rpub -n "__fish_rpub_using_subcommand digest" -l cert-dir -d 'Use the authorities (*.crt) and client certificate (*.cert, *.key) in this directory' -r -F
complete -c rpub -n "__fish_rpub_using_subcommand digest" -l registries-conf -d 'Read mirrors from this file [default: containers/registries.conf in ~/.config or /etc]' -r -F
complete -c rpub -n "__fish_rpub_using_subcommand digest" -l retry-times -d 'Try a failed request so many times more [default: 4]' -r
complete -c rpub -n "__fish_rpub_using_subcommand digest" -l retry-delay -d 'Wait so long before the first retry, twice as long before each further one [default: 500ms]' -r
complete -c rpub -n "__fish_rpub_using_subcommand digest" -l max-wait -d 'Give up at once when a registry asks for a longer wait than this [default: 1m]' -r
complete -c rpub -n "__fish_rpub_using_subcommand digest" -l idle-timeout -d 'Break off when a registry does nothing for so long [default: 90s]' -r
complete -c rpub -n "__fish_rpub_using_subcommand digest" -l concurrency -d 'Move at most so many blobs at once each way [default: what the registry takes, up to 16]' -r
complete -c rpub -n "__fish_rpub_using_subcommand digest" -l limit-rate -d 'Move at most so many bytes a second, both ways together, as in 5MB' -r
complete -c rpub -n "__fish_rpub_using_subcommand digest" -l resolve -d 'Connect to this address for a registry\'s host and port (repeatable)' -r
complete -c rpub -n "__fish_rpub_using_subcommand digest" -l http-header -d 'Send this header to registries; @FILE reads lines from a file (repeatable)' -r
complete -c rpub -n "__fish_rpub_using_subcommand digest" -l user-agent-prefix -d 'Put this text before rpub\'s own in the user agent' -r
complete -c rpub -n "__fish_rpub_using_subcommand digest" -l authfile -d 'Look for logins in this file only; login and logout change it' -r -F
complete -c rpub -n "__fish_rpub_using_subcommand digest" -l src-authfile -d 'Look for logins for what is read from registries in this file only' -r -F
complete -c rpub -n "__fish_rpub_using_subcommand digest" -l dest-authfile -d 'Look for logins for what is written to registries in this file only' -r -F
complete -c rpub -n "__fish_rpub_using_subcommand digest" -l registry-token-file -d 'Send the bearer token in this file to this registry (repeatable)' -r
complete -c rpub -n "__fish_rpub_using_subcommand digest" -l full-ref -d 'Print the name too'
complete -c rpub -n "__fish_rpub_using_subcommand digest" -s q -l quiet -d 'Show no progress, print only the result'
complete -c rpub -n "__fish_rpub_using_subcommand digest" -l offline -d 'Open no connection to anybody: what is here counts, as it was last seen'
complete -c rpub -n "__fish_rpub_using_subcommand digest" -s h -l help -d 'Print help'
complete -c rpub -n "__fish_rpub_using_subcommand manifest; and not __fish_seen_subcommand_from get fetch head put push diff rm remove delete help" -l store -d 'Keep images, layers and the build cache here [default: ~/.local/share/rpub]' -r -F
complete -c rpub -n "__fish_rpub_using_subcommand manifest; and not __fish_seen_subcommand_from get fetch head put push diff rm remove delete help" -l cache-size -d 'Keep the build cache within this size [default: a fifth of the disk, 10 to 100 GiB]' -r
complete -c rpub -n "__fish_rpub_using_subcommand manifest; and not __fish_seen_subcommand_from get fetch head put push diff rm remove delete help" -l progress -d 'Show progress as auto, tty, plain, quiet or rawjson' -r -f -a "auto\t'Bars on a terminal, plain lines elsewhere'
tty\t'Bars'
plain\t'Numbered lines'
quiet\t'Nothing but warnings and errors'
rawjson\t'One JSON object a line, for programs'"
complete -c rpub -n "__fish_rpub_using_subcommand manifest; and not __fish_seen_subcommand_from get fetch head put push diff rm remove delete help" -l insecure-registry -d 'Allow TLS with any certificate, or else plain HTTP, for this registry (repeatable)' -r
complete -c rpub -n "__fish_rpub_using_subcommand manifest; and not __fish_seen_subcommand_from get fetch head put push diff rm remove delete help" -l plain-http -d 'Reach this registry by plain HTTP (repeatable)' -r
complete -c rpub -n "__fish_rpub_using_subcommand manifest; and not __fish_seen_subcommand_from get fetch head put push diff rm remove delete help" -l skip-tls-verify -d 'Do not verify the certificate of this registry (repeatable)' -r
complete -c rpub -n "__fish_rpub_using_subcommand manifest; and not __fish_seen_subcommand_from get fetch head put push diff rm remove delete help" -l ca-file -d 'Also trust the certificate authorities in this PEM file (repeatable)' -r -F
complete -c rpub -n "__fish_rpub_using_subcommand manifest; and not __fish_seen_subcommand_from get fetch head put push diff rm remove delete help" -l cert-dir -d 'Use the authorities (*.crt) and client certificate (*.cert, *.key) in this directory' -r -F
complete -c rpub -n "__fish_rpub_using_subcommand manifest; and not __fish_seen_subcommand_from get fetch head put push diff rm remove delete help" -l registries-conf -d 'Read mirrors from this file [default: containers/registries.conf in ~/.config or /etc]' -r -F
complete -c rpub -n "__fish_rpub_using_subcommand manifest; and not __fish_seen_subcommand_from get fetch head put push diff rm remove delete help" -l retry-times -d 'Try a failed request so many times more [default: 4]' -r
complete -c rpub -n "__fish_rpub_using_subcommand manifest; and not __fish_seen_subcommand_from get fetch head put push diff rm remove delete help" -l retry-delay -d 'Wait so long before the first retry, twice as long before each further one [default: 500ms]' -r
complete -c rpub -n "__fish_rpub_using_subcommand manifest; and not __fish_seen_subcommand_from get fetch head put push diff rm remove delete help" -l max-wait -d 'Give up at once when a registry asks for a longer wait than this [default: 1m]' -r
complete -c rpub -n "__fish_rpub_using_subcommand manifest; and not __fish_seen_subcommand_from get fetch head put push diff rm remove delete help" -l idle-timeout -d 'Break off when a registry does nothing for so long [default: 90s]' -r
complete -c rpub -n "__fish_rpub_using_subcommand manifest; and not __fish_seen_subcommand_from get fetch head put push diff rm remove delete help" -l concurrency -d 'Move at most so many blobs at once each way [default: what the registry takes, up to 16]' -r
complete -c rpub -n "__fish_rpub_using_subcommand manifest; and not __fish_seen_subcommand_from get fetch head put push diff rm remove delete help" -l limit-rate -d 'Move at most so many bytes a second, both ways together, as in 5MB' -r
complete -c rpub -n "__fish_rpub_using_subcommand manifest; and not __fish_seen_subcommand_from get fetch head put push diff rm remove delete help" -l resolve -d 'Connect to this address for a registry\'s host and port (repeatable)' -r
complete -c rpub -n "__fish_rpub_using_subcommand manifest; and not __fish_seen_subcommand_from get fetch head put push diff rm remove delete help" -l http-header -d 'Send this header to registries; @FILE reads lines from a file (repeatable)' -r
complete -c rpub -n "__fish_rpub_using_subcommand manifest; and not __fish_seen_subcommand_from get fetch head put push diff rm remove delete help" -l user-agent-prefix -d 'Put this text before rpub\'s own in the user agent' -r
complete -c rpub -n "__fish_rpub_using_subcommand manifest; and not __fish_seen_subcommand_from get fetch head put push diff rm remove delete help" -l authfile -d 'Look for logins in this file only; login and logout change it' -r -F
complete -c rpub -n "__fish_rpub_using_subcommand manifest; and not __fish_seen_subcommand_from get fetch head put push diff rm remove delete help" -l src-authfile -d 'Look for logins for what is read from registries in this file only' -r -F
complete -c rpub -n "__fish_rpub_using_subcommand manifest; and not __fish_seen_subcommand_from get fetch head put push diff rm remove delete help" -l dest-authfile -d 'Look for logins for what is written to registries in this file only' -r -F
complete -c rpub -n "__fish_rpub_using_subcommand manifest; and not __fish_seen_subcommand_from get fetch head put push diff rm remove delete help" -l registry-token-file -d 'Send the bearer token in this file to this registry (repeatable)' -r
complete -c rpub -n "__fish_rpub_using_subcommand manifest; and not __fish_seen_subcommand_from get fetch head put push diff rm remove delete help" -s q -l quiet -d 'Show no progress, print only the result'
complete -c rpub -n "__fish_rpub_using_subcommand manifest; and not __fish_seen_subcommand_from get fetch head put push diff rm remove delete help" -l offline -d 'Open no connection to anybody: what is here counts, as it was last seen'
complete -c rpub -n "__fish_rpub_using_subcommand manifest; and not __fish_seen_subcommand_from get fetch head put push diff rm remove delete help" -s h -l help -d 'Print help'
complete -c rpub -n "__fish_rpub_using_subcommand manifest; and not __fish_seen_subcommand_from get fetch head put push diff rm remove delete help" -f -a "get" -d 'Print a manifest or index, byte by byte as it is in the registry'
complete -c rpub -n "__fish_rpub_using_subcommand manifest; and not __fish_seen_subcommand_from get fetch head put push diff rm remove delete help" -f -a "fetch" -d 'Print a manifest or index, byte by byte as it is in the registry'
complete -c rpub -n "__fish_rpub_using_subcommand manifest; and not __fish_seen_subcommand_from get fetch head put push diff rm remove delete help" -f -a "head" -d 'Print a manifest\'s media type, digest and size'
complete -c rpub -n "__fish_rpub_using_subcommand manifest; and not __fish_seen_subcommand_from get fetch head put push diff rm remove delete help" -f -a "put" -d 'Push a manifest or index, byte by byte as it is in a file'
complete -c rpub -n "__fish_rpub_using_subcommand manifest; and not __fish_seen_subcommand_from get fetch head put push diff rm remove delete help" -f -a "push" -d 'Push a manifest or index, byte by byte as it is in a file'
complete -c rpub -n "__fish_rpub_using_subcommand manifest; and not __fish_seen_subcommand_from get fetch head put push diff rm remove delete help" -f -a "diff" -d 'Show in what two manifests or indexes differ'
complete -c rpub -n "__fish_rpub_using_subcommand manifest; and not __fish_seen_subcommand_from get fetch head put push diff rm remove delete help" -f -a "rm" -d 'Remove a manifest and all its tags from a registry'
complete -c rpub -n "__fish_rpub_using_subcommand manifest; and not __fish_seen_subcommand_from get fetch head put push diff rm remove delete help" -f -a "remove" -d 'Remove a manifest and all its tags from a registry'
complete -c rpub -n "__fish_rpub_using_subcommand manifest; and not __fish_seen_subcommand_from get fetch head put push diff rm remove delete help" -f -a "delete" -d 'Remove a manifest and all its tags from a registry'
complete -c rpub -n "__fish_rpub_using_subcommand manifest; and not __fish_seen_subcommand_from get fetch head put push diff rm remove delete help" -f -a "help" -d 'Print this message or the help of the given subcommand(s)'
complete -c rpub -n "__fish_rpub_using_subcommand manifest; and __fish_seen_subcommand_from get" -l platform -d 'Of an index, take the manifest for this platform' -r
complete -c rpub -n "__fish_rpub_using_subcommand manifest; and __fish_seen_subcommand_from get" -l format -d 'Print json, the template given, or with table before it a table: \'table {{.ID}}\'' -r
complete -c rpub -n "__fish_rpub_using_subcommand manifest; and __fish_seen_subcommand_from get" -l store -d 'Keep images, layers and the build cache here [default: ~/.local/share/rpub]' -r -F
complete -c rpub -n "__fish_rpub_using_subcommand manifest; and __fish_seen_subcommand_from get" -l cache-size -d 'Keep the build cache within this size [default: a fifth of the disk, 10 to 100 GiB]' -r
complete -c rpub -n "__fish_rpub_using_subcommand manifest; and __fish_seen_subcommand_from get" -l progress -d 'Show progress as auto, tty, plain, quiet or rawjson' -r -f -a "auto\t'Bars on a terminal, plain lines elsewhere'
tty\t'Bars'
plain\t'Numbered lines'
quiet\t'Nothing but warnings and errors'
rawjson\t'One JSON object a line, for programs'"
complete -c rpub -n "__fish_rpub_using_subcommand manifest; and __fish_seen_subcommand_from get" -l insecure-registry -d 'Allow TLS with any certificate, or else plain HTTP, for this registry (repeatable)' -r
complete -c rpub -n "__fish_rpub_using_subcommand manifest; and __fish_seen_subcommand_from get" -l plain-http -d 'Reach this registry by plain HTTP (repeatable)' -r
complete -c rpub -n "__fish_rpub_using_subcommand manifest; and __fish_seen_subcommand_from get" -l skip-tls-verify -d 'Do not verify the certificate of this registry (repeatable)' -r
complete -c rpub -n "__fish_rpub_using_subcommand manifest; and __fish_seen_subcommand_from get" -l ca-file -d 'Also trust the certificate authorities in this PEM file (repeatable)' -r -F
complete -c rpub -n "__fish_rpub_using_subcommand manifest; and __fish_seen_subcommand_from get" -l cert-dir -d 'Use the authorities (*.crt) and client certificate (*.cert, *.key) in this directory' -r -F
complete -c rpub -n "__fish_rpub_using_subcommand manifest; and __fish_seen_subcommand_from get" -l registries-conf -d 'Read mirrors from this file [default: containers/registries.conf in ~/.config or /etc]' -r -F
complete -c rpub -n "__fish_rpub_using_subcommand manifest; and __fish_seen_subcommand_from get" -l retry-times -d 'Try a failed request so many times more [default: 4]' -r
complete -c rpub -n "__fish_rpub_using_subcommand manifest; and __fish_seen_subcommand_from get" -l retry-delay -d 'Wait so long before the first retry, twice as long before each further one [default: 500ms]' -r
complete -c rpub -n "__fish_rpub_using_subcommand manifest; and __fish_seen_subcommand_from get" -l max-wait -d 'Give up at once when a registry asks for a longer wait than this [default: 1m]' -r
complete -c rpub -n "__fish_rpub_using_subcommand manifest; and __fish_seen_subcommand_from get" -l idle-timeout -d 'Break off when a registry does nothing for so long [default: 90s]' -r
complete -c rpub -n "__fish_rpub_using_subcommand manifest; and __fish_seen_subcommand_from get" -l concurrency -d 'Move at most so many blobs at once each way [default: what the registry takes, up to 16]' -r
complete -c rpub -n "__fish_rpub_using_subcommand manifest; and __fish_seen_subcommand_from get" -l limit-rate -d 'Move at most so many bytes a second, both ways together, as in 5MB' -r
complete -c rpub -n "__fish_rpub_using_subcommand manifest; and __fish_seen_subcommand_from get" -l resolve -d 'Connect to this address for a registry\'s host and port (repeatable)' -r
complete -c rpub -n "__fish_rpub_using_subcommand manifest; and __fish_seen_subcommand_from get" -l http-header -d 'Send this header to registries; @FILE reads lines from a file (repeatable)' -r
complete -c rpub -n "__fish_rpub_using_subcommand manifest; and __fish_seen_subcommand_from get" -l user-agent-prefix -d 'Put this text before rpub\'s own in the user agent' -r
complete -c rpub -n "__fish_rpub_using_subcommand manifest; and __fish_seen_subcommand_from get" -l authfile -d 'Look for logins in this file only; login and logout change it' -r -F
complete -c rpub -n "__fish_rpub_using_subcommand manifest; and __fish_seen_subcommand_from get" -l src-authfile -d 'Look for logins for what is read from registries in this file only' -r -F
complete -c rpub -n "__fish_rpub_using_subcommand manifest; and __fish_seen_subcommand_from get" -l dest-authfile -d 'Look for logins for what is written to registries in this file only' -r -F
complete -c rpub -n "__fish_rpub_using_subcommand manifest; and __fish_seen_subcommand_from get" -l registry-token-file -d 'Send the bearer token in this file to this registry (repeatable)' -r
complete -c rpub -n "__fish_rpub_using_subcommand manifest; and __fish_seen_subcommand_from get" -s q -l quiet -d 'Show no progress, print only the result'
complete -c rpub -n "__fish_rpub_using_subcommand manifest; and __fish_seen_subcommand_from get" -l offline -d 'Open no connection to anybody: what is here counts, as it was last seen'
complete -c rpub -n "__fish_rpub_using_subcommand manifest; and __fish_seen_subcommand_from get" -s h -l help -d 'Print help'
complete -c rpub -n "__fish_rpub_using_subcommand manifest; and __fish_seen_subcommand_from fetch" -l platform -d 'Of an index, take the manifest for this platform' -r
complete -c rpub -n "__fish_rpub_using_subcommand manifest; and __fish_seen_subcommand_from fetch" -l format -d 'Print json, the template given, or with table before it a table: \'table {{.ID}}\'' -r
complete -c rpub -n "__fish_rpub_using_subcommand manifest; and __fish_seen_subcommand_from fetch" -l store -d 'Keep images, layers and the build cache here [default: ~/.local/share/rpub]' -r -F
complete -c rpub -n "__fish_rpub_using_subcommand manifest; and __fish_seen_subcommand_from fetch" -l cache-size -d 'Keep the build cache within this size [default: a fifth of the disk, 10 to 100 GiB]' -r
complete -c rpub -n "__fish_rpub_using_subcommand manifest; and __fish_seen_subcommand_from fetch" -l progress -d 'Show progress as auto, tty, plain, quiet or rawjson' -r -f -a "auto\t'Bars on a terminal, plain lines elsewhere'
tty\t'Bars'
plain\t'Numbered lines'
quiet\t'Nothing but warnings and errors'
rawjson\t'One JSON object a line, for programs'"
complete -c rpub -n "__fish_rpub_using_subcommand manifest; and __fish_seen_subcommand_from fetch" -l insecure-registry -d 'Allow TLS with any certificate, or else plain HTTP, for this registry (repeatable)' -r
complete -c rpub -n "__fish_rpub_using_subcommand manifest; and __fish_seen_subcommand_from fetch" -l plain-http -d 'Reach this registry by plain HTTP (repeatable)' -r
complete -c rpub -n "__fish_rpub_using_subcommand manifest; and __fish_seen_subcommand_from fetch" -l skip-tls-verify -d 'Do not verify the certificate of this registry (repeatable)' -r
complete -c rpub -n "__fish_rpub_using_subcommand manifest; and __fish_seen_subcommand_from fetch" -l ca-file -d 'Also trust the certificate authorities in this PEM file (repeatable)' -r -F
complete -c rpub -n "__fish_rpub_using_subcommand manifest; and __fish_seen_subcommand_from fetch" -l cert-dir -d 'Use the authorities (*.crt) and client certificate (*.cert, *.key) in this directory' -r -F
complete -c rpub -n "__fish_rpub_using_subcommand manifest; and __fish_seen_subcommand_from fetch" -l registries-conf -d 'Read mirrors from this file [default: containers/registries.conf in ~/.config or /etc]' -r -F
complete -c rpub -n "__fish_rpub_using_subcommand manifest; and __fish_seen_subcommand_from fetch" -l retry-times -d 'Try a failed request so many times more [default: 4]' -r
complete -c rpub -n "__fish_rpub_using_subcommand manifest; and __fish_seen_subcommand_from fetch" -l retry-delay -d 'Wait so long before the first retry, twice as long before each further one [default: 500ms]' -r
complete -c rpub -n "__fish_rpub_using_subcommand manifest; and __fish_seen_subcommand_from fetch" -l max-wait -d 'Give up at once when a registry asks for a longer wait than this [default: 1m]' -r
complete -c rpub -n "__fish_rpub_using_subcommand manifest; and __fish_seen_subcommand_from fetch" -l idle-timeout -d 'Break off when a registry does nothing for so long [default: 90s]' -r
complete -c rpub -n "__fish_rpub_using_subcommand manifest; and __fish_seen_subcommand_from fetch" -l concurrency -d 'Move at most so many blobs at once each way [default: what the registry takes, up to 16]' -r
complete -c rpub -n "__fish_rpub_using_subcommand manifest; and __fish_seen_subcommand_from fetch" -l limit-rate -d 'Move at most so many bytes a second, both ways together, as in 5MB' -r
complete -c rpub -n "__fish_rpub_using_subcommand manifest; and __fish_seen_subcommand_from fetch" -l resolve -d 'Connect to this address for a registry\'s host and port (repeatable)' -r
complete -c rpub -n "__fish_rpub_using_subcommand manifest; and __fish_seen_subcommand_from fetch" -l http-header -d 'Send this header to registries; @FILE reads lines from a file (repeatable)' -r
complete -c rpub -n "__fish_rpub_using_subcommand manifest; and __fish_seen_subcommand_from fetch" -l user-agent-prefix -d 'Put this text before rpub\'s own in the user agent' -r
complete -c rpub -n "__fish_rpub_using_subcommand manifest; and __fish_seen_subcommand_from fetch" -l authfile -d 'Look for logins in this file only; login and logout change it' -r -F
complete -c rpub -n "__fish_rpub_using_subcommand manifest; and __fish_seen_subcommand_from fetch" -l src-authfile -d 'Look for logins for what is read from registries in this file only' -r -F
complete -c rpub -n "__fish_rpub_using_subcommand manifest; and __fish_seen_subcommand_from fetch" -l dest-authfile -d 'Look for logins for what is written to registries in this file only' -r -F
complete -c rpub -n "__fish_rpub_using_subcommand manifest; and __fish_seen_subcommand_from fetch" -l registry-token-file -d 'Send the bearer token in this file to this registry (repeatable)' -r
complete -c rpub -n "__fish_rpub_using_subcommand manifest; and __fish_seen_subcommand_from fetch" -s q -l quiet -d 'Show no progress, print only the result'
complete -c rpub -n "__fish_rpub_using_subcommand manifest; and __fish_seen_subcommand_from fetch" -l offline -d 'Open no connection to anybody: what is here counts, as it was last seen'
complete -c rpub -n "__fish_rpub_using_subcommand manifest; and __fish_seen_subcommand_from fetch" -s h -l help -d 'Print help'
complete -c rpub -n "__fish_rpub_using_subcommand manifest; and __fish_seen_subcommand_from head" -l platform -d 'Of an index, take the manifest for this platform' -r
complete -c rpub -n "__fish_rpub_using_subcommand manifest; and __fish_seen_subcommand_from head" -l format -d 'Print json, the template given, or with table before it a table: \'table {{.ID}}\'' -r
complete -c rpub -n "__fish_rpub_using_subcommand manifest; and __fish_seen_subcommand_from head" -l store -d 'Keep images, layers and the build cache here [default: ~/.local/share/rpub]' -r -F
complete -c rpub -n "__fish_rpub_using_subcommand manifest; and __fish_seen_subcommand_from head" -l cache-size -d 'Keep the build cache within this size [default: a fifth of the disk, 10 to 100 GiB]' -r
complete -c rpub -n "__fish_rpub_using_subcommand manifest; and __fish_seen_subcommand_from head" -l progress -d 'Show progress as auto, tty, plain, quiet or rawjson' -r -f -a "auto\t'Bars on a terminal, plain lines elsewhere'
tty\t'Bars'
plain\t'Numbered lines'
quiet\t'Nothing but warnings and errors'
rawjson\t'One JSON object a line, for programs'"
complete -c rpub -n "__fish_rpub_using_subcommand manifest; and __fish_seen_subcommand_from head" -l insecure-registry -d 'Allow TLS with any certificate, or else plain HTTP, for this registry (repeatable)' -r
complete -c rpub -n "__fish_rpub_using_subcommand manifest; and __fish_seen_subcommand_from head" -l plain-http -d 'Reach this registry by plain HTTP (repeatable)' -r
complete -c rpub -n "__fish_rpub_using_subcommand manifest; and __fish_seen_subcommand_from head" -l skip-tls-verify -d 'Do not verify the certificate of this registry (repeatable)' -r
complete -c rpub -n "__fish_rpub_using_subcommand manifest; and __fish_seen_subcommand_from head" -l ca-file -d 'Also trust the certificate authorities in this PEM file (repeatable)' -r -F
complete -c rpub -n "__fish_rpub_using_subcommand manifest; and __fish_seen_subcommand_from head" -l cert-dir -d 'Use the authorities (*.crt) and client certificate (*.cert, *.key) in this directory' -r -F
complete -c rpub -n "__fish_rpub_using_subcommand manifest; and __fish_seen_subcommand_from head" -l registries-conf -d 'Read mirrors from this file [default: containers/registries.conf in ~/.config or /etc]' -r -F
complete -c rpub -n "__fish_rpub_using_subcommand manifest; and __fish_seen_subcommand_from head" -l retry-times -d 'Try a failed request so many times more [default: 4]' -r
complete -c rpub -n "__fish_rpub_using_subcommand manifest; and __fish_seen_subcommand_from head" -l retry-delay -d 'Wait so long before the first retry, twice as long before each further one [default: 500ms]' -r
complete -c rpub -n "__fish_rpub_using_subcommand manifest; and __fish_seen_subcommand_from head" -l max-wait -d 'Give up at once when a registry asks for a longer wait than this [default: 1m]' -r
complete -c rpub -n "__fish_rpub_using_subcommand manifest; and __fish_seen_subcommand_from head" -l idle-timeout -d 'Break off when a registry does nothing for so long [default: 90s]' -r
complete -c rpub -n "__fish_rpub_using_subcommand manifest; and __fish_seen_subcommand_from head" -l concurrency -d 'Move at most so many blobs at once each way [default: what the registry takes, up to 16]' -r
complete -c rpub -n "__fish_rpub_using_subcommand manifest; and __fish_seen_subcommand_from head" -l limit-rate -d 'Move at most so many bytes a second, both ways together, as in 5MB' -r
complete -c rpub -n "__fish_rpub_using_subcommand manifest; and __fish_seen_subcommand_from head" -l resolve -d 'Connect to this address for a registry\'s host and port (repeatable)' -r
complete -c rpub -n "__fish_rpub_using_subcommand manifest; and __fish_seen_subcommand_from head" -l http-header -d 'Send this header to registries; @FILE reads lines from a file (repeatable)' -r
complete -c rpub -n "__fish_rpub_using_subcommand manifest; and __fish_seen_subcommand_from head" -l user-agent-prefix -d 'Put this text before rpub\'s own in the user agent' -r
complete -c rpub -n "__fish_rpub_using_subcommand manifest; and __fish_seen_subcommand_from head" -l authfile -d 'Look for logins in this file only; login and logout change it' -r -F
complete -c rpub -n "__fish_rpub_using_subcommand manifest; and __fish_seen_subcommand_from head" -l src-authfile -d 'Look for logins for what is read from registries in this file only' -r -F
complete -c rpub -n "__fish_rpub_using_subcommand manifest; and __fish_seen_subcommand_from head" -l dest-authfile -d 'Look for logins for what is written to registries in this file only' -r -F
complete -c rpub -n "__fish_rpub_using_subcommand manifest; and __fish_seen_subcommand_from head" -l registry-token-file -d 'Send the bearer token in this file to this registry (repeatable)' -r
complete -c rpub -n "__fish_rpub_using_subcommand manifest; and __fish_seen_subcommand_from head" -s q -l quiet -d 'Show no progress, print only the result'
complete -c rpub -n "__fish_rpub_using_subcommand manifest; and __fish_seen_subcommand_from head" -l offline -d 'Open no connection to anybody: what is here counts, as it was last seen'
complete -c rpub -n "__fish_rpub_using_subcommand manifest; and __fish_seen_subcommand_from head" -s h -l help -d 'Print help'
complete -c rpub -n "__fish_rpub_using_subcommand manifest; and __fish_seen_subcommand_from put" -s t -l tag -d 'Give it this tag too (repeatable)' -r
complete -c rpub -n "__fish_rpub_using_subcommand manifest; and __fish_seen_subcommand_from put" -l media-type -l content-type -d 'Media type, when the file does not say it' -r
complete -c rpub -n "__fish_rpub_using_subcommand manifest; and __fish_seen_subcommand_from put" -l format -d 'Print json, the template given, or with table before it a table: \'table {{.ID}}\'' -r
complete -c rpub -n "__fish_rpub_using_subcommand manifest; and __fish_seen_subcommand_from put" -l store -d 'Keep images, layers and the build cache here [default: ~/.local/share/rpub]' -r -F
complete -c rpub -n "__fish_rpub_using_subcommand manifest; and __fish_seen_subcommand_from put" -l cache-size -d 'Keep the build cache within this size [default: a fifth of the disk, 10 to 100 GiB]' -r
complete -c rpub -n "__fish_rpub_using_subcommand manifest; and __fish_seen_subcommand_from put" -l progress -d 'Show progress as auto, tty, plain, quiet or rawjson' -r -f -a "auto\t'Bars on a terminal, plain lines elsewhere'
tty\t'Bars'
plain\t'Numbered lines'
quiet\t'Nothing but warnings and errors'
rawjson\t'One JSON object a line, for programs'"
complete -c rpub -n "__fish_rpub_using_subcommand manifest; and __fish_seen_subcommand_from put" -l insecure-registry -d 'Allow TLS with any certificate, or else plain HTTP, for this registry (repeatable)' -r
complete -c rpub -n "__fish_rpub_using_subcommand manifest; and __fish_seen_subcommand_from put" -l plain-http -d 'Reach this registry by plain HTTP (repeatable)' -r
complete -c rpub -n "__fish_rpub_using_subcommand manifest; and __fish_seen_subcommand_from put" -l skip-tls-verify -d 'Do not verify the certificate of this registry (repeatable)' -r
complete -c rpub -n "__fish_rpub_using_subcommand manifest; and __fish_seen_subcommand_from put" -l ca-file -d 'Also trust the certificate authorities in this PEM file (repeatable)' -r -F
complete -c rpub -n "__fish_rpub_using_subcommand manifest; and __fish_seen_subcommand_from put" -l cert-dir -d 'Use the authorities (*.crt) and client certificate (*.cert, *.key) in this directory' -r -F
complete -c rpub -n "__fish_rpub_using_subcommand manifest; and __fish_seen_subcommand_from put" -l registries-conf -d 'Read mirrors from this file [default: containers/registries.conf in ~/.config or /etc]' -r -F
complete -c rpub -n "__fish_rpub_using_subcommand manifest; and __fish_seen_subcommand_from put" -l retry-times -d 'Try a failed request so many times more [default: 4]' -r
complete -c rpub -n "__fish_rpub_using_subcommand manifest; and __fish_seen_subcommand_from put" -l retry-delay -d 'Wait so long before the first retry, twice as long before each further one [default: 500ms]' -r
complete -c rpub -n "__fish_rpub_using_subcommand manifest; and __fish_seen_subcommand_from put" -l max-wait -d 'Give up at once when a registry asks for a longer wait than this [default: 1m]' -r
complete -c rpub -n "__fish_rpub_using_subcommand manifest; and __fish_seen_subcommand_from put" -l idle-timeout -d 'Break off when a registry does nothing for so long [default: 90s]' -r
complete -c rpub -n "__fish_rpub_using_subcommand manifest; and __fish_seen_subcommand_from put" -l concurrency -d 'Move at most so many blobs at once each way [default: what the registry takes, up to 16]' -r
complete -c rpub -n "__fish_rpub_using_subcommand manifest; and __fish_seen_subcommand_from put" -l limit-rate -d 'Move at most so many bytes a second, both ways together, as in 5MB' -r
complete -c rpub -n "__fish_rpub_using_subcommand manifest; and __fish_seen_subcommand_from put" -l resolve -d 'Connect to this address for a registry\'s host and port (repeatable)' -r
complete -c rpub -n "__fish_rpub_using_subcommand manifest; and __fish_seen_subcommand_from put" -l http-header -d 'Send this header to registries; @FILE reads lines from a file (repeatable)' -r
complete -c rpub -n "__fish_rpub_using_subcommand manifest; and __fish_seen_subcommand_from put" -l user-agent-prefix -d 'Put this text before rpub\'s own in the user agent' -r
complete -c rpub -n "__fish_rpub_using_subcommand manifest; and __fish_seen_subcommand_from put" -l authfile -d 'Look for logins in this file only; login and logout change it' -r -F
complete -c rpub -n "__fish_rpub_using_subcommand manifest; and __fish_seen_subcommand_from put" -l src-authfile -d 'Look for logins for what is read from registries in this file only' -r -F
complete -c rpub -n "__fish_rpub_using_subcommand manifest; and __fish_seen_subcommand_from put" -l dest-authfile -d 'Look for logins for what is written to registries in this file only' -r -F
complete -c rpub -n "__fish_rpub_using_subcommand manifest; and __fish_seen_subcommand_from put" -l registry-token-file -d 'Send the bearer token in this file to this registry (repeatable)' -r
complete -c rpub -n "__fish_rpub_using_subcommand manifest; and __fish_seen_subcommand_from put" -l by-digest -d 'Give it no tag'
complete -c rpub -n "__fish_rpub_using_subcommand manifest; and __fish_seen_subcommand_from put" -s q -l quiet -d 'Show no progress, print only the result'
complete -c rpub -n "__fish_rpub_using_subcommand manifest; and __fish_seen_subcommand_from put" -l offline -d 'Open no connection to anybody: what is here counts, as it was last seen'
complete -c rpub -n "__fish_rpub_using_subcommand manifest; and __fish_seen_subcommand_from put" -s h -l help -d 'Print help'
complete -c rpub -n "__fish_rpub_using_subcommand manifest; and __fish_seen_subcommand_from push" -s t -l tag -d 'Give it this tag too (repeatable)' -r
complete -c rpub -n "__fish_rpub_using_subcommand manifest; and __fish_seen_subcommand_from push" -l media-type -l content-type -d 'Media type, when the file does not say it' -r
complete -c rpub -n "__fish_rpub_using_subcommand manifest; and __fish_seen_subcommand_from push" -l format -d 'Print json, the template given, or with table before it a table: \'table {{.ID}}\'' -r
complete -c rpub -n "__fish_rpub_using_subcommand manifest; and __fish_seen_subcommand_from push" -l store -d 'Keep images, layers and the build cache here [default: ~/.local/share/rpub]' -r -F
complete -c rpub -n "__fish_rpub_using_subcommand manifest; and __fish_seen_subcommand_from push" -l cache-size -d 'Keep the build cache within this size [default: a fifth of the disk, 10 to 100 GiB]' -r
complete -c rpub -n "__fish_rpub_using_subcommand manifest; and __fish_seen_subcommand_from push" -l progress -d 'Show progress as auto, tty, plain, quiet or rawjson' -r -f -a "auto\t'Bars on a terminal, plain lines elsewhere'
tty\t'Bars'
plain\t'Numbered lines'
quiet\t'Nothing but warnings and errors'
rawjson\t'One JSON object a line, for programs'"
complete -c rpub -n "__fish_rpub_using_subcommand manifest; and __fish_seen_subcommand_from push" -l insecure-registry -d 'Allow TLS with any certificate, or else plain HTTP, for this registry (repeatable)' -r
complete -c rpub -n "__fish_rpub_using_subcommand manifest; and __fish_seen_subcommand_from push" -l plain-http -d 'Reach this registry by plain HTTP (repeatable)' -r
complete -c rpub -n "__fish_rpub_using_subcommand manifest; and __fish_seen_subcommand_from push" -l skip-tls-verify -d 'Do not verify the certificate of this registry (repeatable)' -r
complete -c rpub -n "__fish_rpub_using_subcommand manifest; and __fish_seen_subcommand_from push" -l ca-file -d 'Also trust the certificate authorities in this PEM file (repeatable)' -r -F
complete -c rpub -n "__fish_rpub_using_subcommand manifest; and __fish_seen_subcommand_from push" -l cert-dir -d 'Use the authorities (*.crt) and client certificate (*.cert, *.key) in this directory' -r -F
complete -c rpub -n "__fish_rpub_using_subcommand manifest; and __fish_seen_subcommand_from push" -l registries-conf -d 'Read mirrors from this file [default: containers/registries.conf in ~/.config or /etc]' -r -F
complete -c rpub -n "__fish_rpub_using_subcommand manifest; and __fish_seen_subcommand_from push" -l retry-times -d 'Try a failed request so many times more [default: 4]' -r
complete -c rpub -n "__fish_rpub_using_subcommand manifest; and __fish_seen_subcommand_from push" -l retry-delay -d 'Wait so long before the first retry, twice as long before each further one [default: 500ms]' -r
complete -c rpub -n "__fish_rpub_using_subcommand manifest; and __fish_seen_subcommand_from push" -l max-wait -d 'Give up at once when a registry asks for a longer wait than this [default: 1m]' -r
complete -c rpub -n "__fish_rpub_using_subcommand manifest; and __fish_seen_subcommand_from push" -l idle-timeout -d 'Break off when a registry does nothing for so long [default: 90s]' -r
complete -c rpub -n "__fish_rpub_using_subcommand manifest; and __fish_seen_subcommand_from push" -l concurrency -d 'Move at most so many blobs at once each way [default: what the registry takes, up to 16]' -r
complete -c rpub -n "__fish_rpub_using_subcommand manifest; and __fish_seen_subcommand_from push" -l limit-rate -d 'Move at most so many bytes a second, both ways together, as in 5MB' -r
complete -c rpub -n "__fish_rpub_using_subcommand manifest; and __fish_seen_subcommand_from push" -l resolve -d 'Connect to this address for a registry\'s host and port (repeatable)' -r
complete -c rpub -n "__fish_rpub_using_subcommand manifest; and __fish_seen_subcommand_from push" -l http-header -d 'Send this header to registries; @FILE reads lines from a file (repeatable)' -r
complete -c rpub -n "__fish_rpub_using_subcommand manifest; and __fish_seen_subcommand_from push" -l user-agent-prefix -d 'Put this text before rpub\'s own in the user agent' -r
complete -c rpub -n "__fish_rpub_using_subcommand manifest; and __fish_seen_subcommand_from push" -l authfile -d 'Look for logins in this file only; login and logout change it' -r -F
complete -c rpub -n "__fish_rpub_using_subcommand manifest; and __fish_seen_subcommand_from push" -l src-authfile -d 'Look for logins for what is read from registries in this file only' -r -F
complete -c rpub -n "__fish_rpub_using_subcommand manifest; and __fish_seen_subcommand_from push" -l dest-authfile -d 'Look for logins for what is written to registries in this file only' -r -F
complete -c rpub -n "__fish_rpub_using_subcommand manifest; and __fish_seen_subcommand_from push" -l registry-token-file -d 'Send the bearer token in this file to this registry (repeatable)' -r
complete -c rpub -n "__fish_rpub_using_subcommand manifest; and __fish_seen_subcommand_from push" -l by-digest -d 'Give it no tag'
complete -c rpub -n "__fish_rpub_using_subcommand manifest; and __fish_seen_subcommand_from push" -s q -l quiet -d 'Show no progress, print only the result'
complete -c rpub -n "__fish_rpub_using_subcommand manifest; and __fish_seen_subcommand_from push" -l offline -d 'Open no connection to anybody: what is here counts, as it was last seen'
complete -c rpub -n "__fish_rpub_using_subcommand manifest; and __fish_seen_subcommand_from push" -s h -l help -d 'Print help'
complete -c rpub -n "__fish_rpub_using_subcommand manifest; and __fish_seen_subcommand_from diff" -l platform -d 'Of indexes, compare the manifests for this platform' -r
complete -c rpub -n "__fish_rpub_using_subcommand manifest; and __fish_seen_subcommand_from diff" -l format -d 'Print json, the template given, or with table before it a table: \'table {{.ID}}\'' -r
complete -c rpub -n "__fish_rpub_using_subcommand manifest; and __fish_seen_subcommand_from diff" -l store -d 'Keep images, layers and the build cache here [default: ~/.local/share/rpub]' -r -F
complete -c rpub -n "__fish_rpub_using_subcommand manifest; and __fish_seen_subcommand_from diff" -l cache-size -d 'Keep the build cache within this size [default: a fifth of the disk, 10 to 100 GiB]' -r
complete -c rpub -n "__fish_rpub_using_subcommand manifest; and __fish_seen_subcommand_from diff" -l progress -d 'Show progress as auto, tty, plain, quiet or rawjson' -r -f -a "auto\t'Bars on a terminal, plain lines elsewhere'
tty\t'Bars'
plain\t'Numbered lines'
quiet\t'Nothing but warnings and errors'
rawjson\t'One JSON object a line, for programs'"
complete -c rpub -n "__fish_rpub_using_subcommand manifest; and __fish_seen_subcommand_from diff" -l insecure-registry -d 'Allow TLS with any certificate, or else plain HTTP, for this registry (repeatable)' -r
complete -c rpub -n "__fish_rpub_using_subcommand manifest; and __fish_seen_subcommand_from diff" -l plain-http -d 'Reach this registry by plain HTTP (repeatable)' -r
complete -c rpub -n "__fish_rpub_using_subcommand manifest; and __fish_seen_subcommand_from diff" -l skip-tls-verify -d 'Do not verify the certificate of this registry (repeatable)' -r
complete -c rpub -n "__fish_rpub_using_subcommand manifest; and __fish_seen_subcommand_from diff" -l ca-file -d 'Also trust the certificate authorities in this PEM file (repeatable)' -r -F
complete -c rpub -n "__fish_rpub_using_subcommand manifest; and __fish_seen_subcommand_from diff" -l cert-dir -d 'Use the authorities (*.crt) and client certificate (*.cert, *.key) in this directory' -r -F
complete -c rpub -n "__fish_rpub_using_subcommand manifest; and __fish_seen_subcommand_from diff" -l registries-conf -d 'Read mirrors from this file [default: containers/registries.conf in ~/.config or /etc]' -r -F
complete -c rpub -n "__fish_rpub_using_subcommand manifest; and __fish_seen_subcommand_from diff" -l retry-times -d 'Try a failed request so many times more [default: 4]' -r
complete -c rpub -n "__fish_rpub_using_subcommand manifest; and __fish_seen_subcommand_from diff" -l retry-delay -d 'Wait so long before the first retry, twice as long before each further one [default: 500ms]' -r
complete -c rpub -n "__fish_rpub_using_subcommand manifest; and __fish_seen_subcommand_from diff" -l max-wait -d 'Give up at once when a registry asks for a longer wait than this [default: 1m]' -r
complete -c rpub -n "__fish_rpub_using_subcommand manifest; and __fish_seen_subcommand_from diff" -l idle-timeout -d 'Break off when a registry does nothing for so long [default: 90s]' -r
complete -c rpub -n "__fish_rpub_using_subcommand manifest; and __fish_seen_subcommand_from diff" -l concurrency -d 'Move at most so many blobs at once each way [default: what the registry takes, up to 16]' -r
complete -c rpub -n "__fish_rpub_using_subcommand manifest; and __fish_seen_subcommand_from diff" -l limit-rate -d 'Move at most so many bytes a second, both ways together, as in 5MB' -r
complete -c rpub -n "__fish_rpub_using_subcommand manifest; and __fish_seen_subcommand_from diff" -l resolve -d 'Connect to this address for a registry\'s host and port (repeatable)' -r
complete -c rpub -n "__fish_rpub_using_subcommand manifest; and __fish_seen_subcommand_from diff" -l http-header -d 'Send this header to registries; @FILE reads lines from a file (repeatable)' -r
complete -c rpub -n "__fish_rpub_using_subcommand manifest; and __fish_seen_subcommand_from diff" -l user-agent-prefix -d 'Put this text before rpub\'s own in the user agent' -r
complete -c rpub -n "__fish_rpub_using_subcommand manifest; and __fish_seen_subcommand_from diff" -l authfile -d 'Look for logins in this file only; login and logout change it' -r -F
complete -c rpub -n "__fish_rpub_using_subcommand manifest; and __fish_seen_subcommand_from diff" -l src-authfile -d 'Look for logins for what is read from registries in this file only' -r -F
complete -c rpub -n "__fish_rpub_using_subcommand manifest; and __fish_seen_subcommand_from diff" -l dest-authfile -d 'Look for logins for what is written to registries in this file only' -r -F
complete -c rpub -n "__fish_rpub_using_subcommand manifest; and __fish_seen_subcommand_from diff" -l registry-token-file -d 'Send the bearer token in this file to this registry (repeatable)' -r
complete -c rpub -n "__fish_rpub_using_subcommand manifest; and __fish_seen_subcommand_from diff" -l config -d 'Compare the configs too'
complete -c rpub -n "__fish_rpub_using_subcommand manifest; and __fish_seen_subcommand_from diff" -l local -d 'Look into the store instead of a registry'
complete -c rpub -n "__fish_rpub_using_subcommand manifest; and __fish_seen_subcommand_from diff" -s q -l quiet -d 'Show no progress, print only the result'
complete -c rpub -n "__fish_rpub_using_subcommand manifest; and __fish_seen_subcommand_from diff" -l offline -d 'Open no connection to anybody: what is here counts, as it was last seen'
complete -c rpub -n "__fish_rpub_using_subcommand manifest; and __fish_seen_subcommand_from diff" -s h -l help -d 'Print help'
complete -c rpub -n "__fish_rpub_using_subcommand manifest; and __fish_seen_subcommand_from rm" -l format -d 'Print json, the template given, or with table before it a table: \'table {{.ID}}\'' -r
complete -c rpub -n "__fish_rpub_using_subcommand manifest; and __fish_seen_subcommand_from rm" -l store -d 'Keep images, layers and the build cache here [default: ~/.local/share/rpub]' -r -F
complete -c rpub -n "__fish_rpub_using_subcommand manifest; and __fish_seen_subcommand_from rm" -l cache-size -d 'Keep the build cache within this size [default: a fifth of the disk, 10 to 100 GiB]' -r
complete -c rpub -n "__fish_rpub_using_subcommand manifest; and __fish_seen_subcommand_from rm" -l progress -d 'Show progress as auto, tty, plain, quiet or rawjson' -r -f -a "auto\t'Bars on a terminal, plain lines elsewhere'
tty\t'Bars'
plain\t'Numbered lines'
quiet\t'Nothing but warnings and errors'
rawjson\t'One JSON object a line, for programs'"
complete -c rpub -n "__fish_rpub_using_subcommand manifest; and __fish_seen_subcommand_from rm" -l insecure-registry -d 'Allow TLS with any certificate, or else plain HTTP, for this registry (repeatable)' -r
complete -c rpub -n "__fish_rpub_using_subcommand manifest; and __fish_seen_subcommand_from rm" -l plain-http -d 'Reach this registry by plain HTTP (repeatable)' -r
complete -c rpub -n "__fish_rpub_using_subcommand manifest; and __fish_seen_subcommand_from rm" -l skip-tls-verify -d 'Do not verify the certificate of this registry (repeatable)' -r
complete -c rpub -n "__fish_rpub_using_subcommand manifest; and __fish_seen_subcommand_from rm" -l ca-file -d 'Also trust the certificate authorities in this PEM file (repeatable)' -r -F
complete -c rpub -n "__fish_rpub_using_subcommand manifest; and __fish_seen_subcommand_from rm" -l cert-dir -d 'Use the authorities (*.crt) and client certificate (*.cert, *.key) in this directory' -r -F
complete -c rpub -n "__fish_rpub_using_subcommand manifest; and __fish_seen_subcommand_from rm" -l registries-conf -d 'Read mirrors from this file [default: containers/registries.conf in ~/.config or /etc]' -r -F
complete -c rpub -n "__fish_rpub_using_subcommand manifest; and __fish_seen_subcommand_from rm" -l retry-times -d 'Try a failed request so many times more [default: 4]' -r
complete -c rpub -n "__fish_rpub_using_subcommand manifest; and __fish_seen_subcommand_from rm" -l retry-delay -d 'Wait so long before the first retry, twice as long before each further one [default: 500ms]' -r
complete -c rpub -n "__fish_rpub_using_subcommand manifest; and __fish_seen_subcommand_from rm" -l max-wait -d 'Give up at once when a registry asks for a longer wait than this [default: 1m]' -r
complete -c rpub -n "__fish_rpub_using_subcommand manifest; and __fish_seen_subcommand_from rm" -l idle-timeout -d 'Break off when a registry does nothing for so long [default: 90s]' -r
complete -c rpub -n "__fish_rpub_using_subcommand manifest; and __fish_seen_subcommand_from rm" -l concurrency -d 'Move at most so many blobs at once each way [default: what the registry takes, up to 16]' -r
complete -c rpub -n "__fish_rpub_using_subcommand manifest; and __fish_seen_subcommand_from rm" -l limit-rate -d 'Move at most so many bytes a second, both ways together, as in 5MB' -r
complete -c rpub -n "__fish_rpub_using_subcommand manifest; and __fish_seen_subcommand_from rm" -l resolve -d 'Connect to this address for a registry\'s host and port (repeatable)' -r
complete -c rpub -n "__fish_rpub_using_subcommand manifest; and __fish_seen_subcommand_from rm" -l http-header -d 'Send this header to registries; @FILE reads lines from a file (repeatable)' -r
complete -c rpub -n "__fish_rpub_using_subcommand manifest; and __fish_seen_subcommand_from rm" -l user-agent-prefix -d 'Put this text before rpub\'s own in the user agent' -r
complete -c rpub -n "__fish_rpub_using_subcommand manifest; and __fish_seen_subcommand_from rm" -l authfile -d 'Look for logins in this file only; login and logout change it' -r -F
complete -c rpub -n "__fish_rpub_using_subcommand manifest; and __fish_seen_subcommand_from rm" -l src-authfile -d 'Look for logins for what is read from registries in this file only' -r -F
complete -c rpub -n "__fish_rpub_using_subcommand manifest; and __fish_seen_subcommand_from rm" -l dest-authfile -d 'Look for logins for what is written to registries in this file only' -r -F
complete -c rpub -n "__fish_rpub_using_subcommand manifest; and __fish_seen_subcommand_from rm" -l registry-token-file -d 'Send the bearer token in this file to this registry (repeatable)' -r
complete -c rpub -n "__fish_rpub_using_subcommand manifest; and __fish_seen_subcommand_from rm" -l force-tag-dereference -d 'Take tags too: remove what they stand for, with all its other tags'
complete -c rpub -n "__fish_rpub_using_subcommand manifest; and __fish_seen_subcommand_from rm" -s q -l quiet -d 'Show no progress, print only the result'
complete -c rpub -n "__fish_rpub_using_subcommand manifest; and __fish_seen_subcommand_from rm" -l offline -d 'Open no connection to anybody: what is here counts, as it was last seen'
complete -c rpub -n "__fish_rpub_using_subcommand manifest; and __fish_seen_subcommand_from rm" -s h -l help -d 'Print help'
complete -c rpub -n "__fish_rpub_using_subcommand manifest; and __fish_seen_subcommand_from remove" -l format -d 'Print json, the template given, or with table before it a table: \'table {{.ID}}\'' -r
complete -c rpub -n "__fish_rpub_using_subcommand manifest; and __fish_seen_subcommand_from remove" -l store -d 'Keep images, layers and the build cache here [default: ~/.local/share/rpub]' -r -F
complete -c rpub -n "__fish_rpub_using_subcommand manifest; and __fish_seen_subcommand_from remove" -l cache-size -d 'Keep the build cache within this size [default: a fifth of the disk, 10 to 100 GiB]' -r
complete -c rpub -n "__fish_rpub_using_subcommand manifest; and __fish_seen_subcommand_from remove" -l progress -d 'Show progress as auto, tty, plain, quiet or rawjson' -r -f -a "auto\t'Bars on a terminal, plain lines elsewhere'
tty\t'Bars'
plain\t'Numbered lines'
quiet\t'Nothing but warnings and errors'
rawjson\t'One JSON object a line, for programs'"
complete -c rpub -n "__fish_rpub_using_subcommand manifest; and __fish_seen_subcommand_from remove" -l insecure-registry -d 'Allow TLS with any certificate, or else plain HTTP, for this registry (repeatable)' -r
complete -c rpub -n "__fish_rpub_using_subcommand manifest; and __fish_seen_subcommand_from remove" -l plain-http -d 'Reach this registry by plain HTTP (repeatable)' -r
complete -c rpub -n "__fish_rpub_using_subcommand manifest; and __fish_seen_subcommand_from remove" -l skip-tls-verify -d 'Do not verify the certificate of this registry (repeatable)' -r
complete -c rpub -n "__fish_rpub_using_subcommand manifest; and __fish_seen_subcommand_from remove" -l ca-file -d 'Also trust the certificate authorities in this PEM file (repeatable)' -r -F
complete -c rpub -n "__fish_rpub_using_subcommand manifest; and __fish_seen_subcommand_from remove" -l cert-dir -d 'Use the authorities (*.crt) and client certificate (*.cert, *.key) in this directory' -r -F
complete -c rpub -n "__fish_rpub_using_subcommand manifest; and __fish_seen_subcommand_from remove" -l registries-conf -d 'Read mirrors from this file [default: containers/registries.conf in ~/.config or /etc]' -r -F
complete -c rpub -n "__fish_rpub_using_subcommand manifest; and __fish_seen_subcommand_from remove" -l retry-times -d 'Try a failed request so many times more [default: 4]' -r
complete -c rpub -n "__fish_rpub_using_subcommand manifest; and __fish_seen_subcommand_from remove" -l retry-delay -d 'Wait so long before the first retry, twice as long before each further one [default: 500ms]' -r
complete -c rpub -n "__fish_rpub_using_subcommand manifest; and __fish_seen_subcommand_from remove" -l max-wait -d 'Give up at once when a registry asks for a longer wait than this [default: 1m]' -r
complete -c rpub -n "__fish_rpub_using_subcommand manifest; and __fish_seen_subcommand_from remove" -l idle-timeout -d 'Break off when a registry does nothing for so long [default: 90s]' -r
complete -c rpub -n "__fish_rpub_using_subcommand manifest; and __fish_seen_subcommand_from remove" -l concurrency -d 'Move at most so many blobs at once each way [default: what the registry takes, up to 16]' -r
complete -c rpub -n "__fish_rpub_using_subcommand manifest; and __fish_seen_subcommand_from remove" -l limit-rate -d 'Move at most so many bytes a second, both ways together, as in 5MB' -r
complete -c rpub -n "__fish_rpub_using_subcommand manifest; and __fish_seen_subcommand_from remove" -l resolve -d 'Connect to this address for a registry\'s host and port (repeatable)' -r
complete -c rpub -n "__fish_rpub_using_subcommand manifest; and __fish_seen_subcommand_from remove" -l http-header -d 'Send this header to registries; @FILE reads lines from a file (repeatable)' -r
complete -c rpub -n "__fish_rpub_using_subcommand manifest; and __fish_seen_subcommand_from remove" -l user-agent-prefix -d 'Put this text before rpub\'s own in the user agent' -r
complete -c rpub -n "__fish_rpub_using_subcommand manifest; and __fish_seen_subcommand_from remove" -l authfile -d 'Look for logins in this file only; login and logout change it' -r -F
complete -c rpub -n "__fish_rpub_using_subcommand manifest; and __fish_seen_subcommand_from remove" -l src-authfile -d 'Look for logins for what is read from registries in this file only' -r -F
complete -c rpub -n "__fish_rpub_using_subcommand manifest; and __fish_seen_subcommand_from remove" -l dest-authfile -d 'Look for logins for what is written to registries in this file only' -r -F
complete -c rpub -n "__fish_rpub_using_subcommand manifest; and __fish_seen_subcommand_from remove" -l registry-token-file -d 'Send the bearer token in this file to this registry (repeatable)' -r
complete -c rpub -n "__fish_rpub_using_subcommand manifest; and __fish_seen_subcommand_from remove" -l force-tag-dereference -d 'Take tags too: remove what they stand for, with all its other tags'
complete -c rpub -n "__fish_rpub_using_subcommand manifest; and __fish_seen_subcommand_from remove" -s q -l quiet -d 'Show no progress, print only the result'
complete -c rpub -n "__fish_rpub_using_subcommand manifest; and __fish_seen_subcommand_from remove" -l offline -d 'Open no connection to anybody: what is here counts, as it was last seen'
complete -c rpub -n "__fish_rpub_using_subcommand manifest; and __fish_seen_subcommand_from remove" -s h -l help -d 'Print help'
complete -c rpub -n "__fish_rpub_using_subcommand manifest; and __fish_seen_subcommand_from delete" -l format -d 'Print json, the template given, or with table before it a table: \'table {{.ID}}\'' -r
complete -c rpub -n "__fish_rpub_using_subcommand manifest; and __fish_seen_subcommand_from delete" -l store -d 'Keep images, layers and the build cache here [default: ~/.local/share/rpub]' -r -F
complete -c rpub -n "__fish_rpub_using_subcommand manifest; and __fish_seen_subcommand_from delete" -l cache-size -d 'Keep the build cache within this size [default: a fifth of the disk, 10 to 100 GiB]' -r
complete -c rpub -n "__fish_rpub_using_subcommand manifest; and __fish_seen_subcommand_from delete" -l progress -d 'Show progress as auto, tty, plain, quiet or rawjson' -r -f -a "auto\t'Bars on a terminal, plain lines elsewhere'
tty\t'Bars'
plain\t'Numbered lines'
quiet\t'Nothing but warnings and errors'
rawjson\t'One JSON object a line, for programs'"
complete -c rpub -n "__fish_rpub_using_subcommand manifest; and __fish_seen_subcommand_from delete" -l insecure-registry -d 'Allow TLS with any certificate, or else plain HTTP, for this registry (repeatable)' -r
complete -c rpub -n "__fish_rpub_using_subcommand manifest; and __fish_seen_subcommand_from delete" -l plain-http -d 'Reach this registry by plain HTTP (repeatable)' -r
complete -c rpub -n "__fish_rpub_using_subcommand manifest; and __fish_seen_subcommand_from delete" -l skip-tls-verify -d 'Do not verify the certificate of this registry (repeatable)' -r
complete -c rpub -n "__fish_rpub_using_subcommand manifest; and __fish_seen_subcommand_from delete" -l ca-file -d 'Also trust the certificate authorities in this PEM file (repeatable)' -r -F
complete -c rpub -n "__fish_rpub_using_subcommand manifest; and __fish_seen_subcommand_from delete" -l cert-dir -d 'Use the authorities (*.crt) and client certificate (*.cert, *.key) in this directory' -r -F
complete -c rpub -n "__fish_rpub_using_subcommand manifest; and __fish_seen_subcommand_from delete" -l registries-conf -d 'Read mirrors from this file [default: containers/registries.conf in ~/.config or /etc]' -r -F
complete -c rpub -n "__fish_rpub_using_subcommand manifest; and __fish_seen_subcommand_from delete" -l retry-times -d 'Try a failed request so many times more [default: 4]' -r
complete -c rpub -n "__fish_rpub_using_subcommand manifest; and __fish_seen_subcommand_from delete" -l retry-delay -d 'Wait so long before the first retry, twice as long before each further one [default: 500ms]' -r
complete -c rpub -n "__fish_rpub_using_subcommand manifest; and __fish_seen_subcommand_from delete" -l max-wait -d 'Give up at once when a registry asks for a longer wait than this [default: 1m]' -r
complete -c rpub -n "__fish_rpub_using_subcommand manifest; and __fish_seen_subcommand_from delete" -l idle-timeout -d 'Break off when a registry does nothing for so long [default: 90s]' -r
complete -c rpub -n "__fish_rpub_using_subcommand manifest; and __fish_seen_subcommand_from delete" -l concurrency -d 'Move at most so many blobs at once each way [default: what the registry takes, up to 16]' -r
complete -c rpub -n "__fish_rpub_using_subcommand manifest; and __fish_seen_subcommand_from delete" -l limit-rate -d 'Move at most so many bytes a second, both ways together, as in 5MB' -r
complete -c rpub -n "__fish_rpub_using_subcommand manifest; and __fish_seen_subcommand_from delete" -l resolve -d 'Connect to this address for a registry\'s host and port (repeatable)' -r
complete -c rpub -n "__fish_rpub_using_subcommand manifest; and __fish_seen_subcommand_from delete" -l http-header -d 'Send this header to registries; @FILE reads lines from a file (repeatable)' -r
complete -c rpub -n "__fish_rpub_using_subcommand manifest; and __fish_seen_subcommand_from delete" -l user-agent-prefix -d 'Put this text before rpub\'s own in the user agent' -r
complete -c rpub -n "__fish_rpub_using_subcommand manifest; and __fish_seen_subcommand_from delete" -l authfile -d 'Look for logins in this file only; login and logout change it' -r -F
complete -c rpub -n "__fish_rpub_using_subcommand manifest; and __fish_seen_subcommand_from delete" -l src-authfile -d 'Look for logins for what is read from registries in this file only' -r -F
complete -c rpub -n "__fish_rpub_using_subcommand manifest; and __fish_seen_subcommand_from delete" -l dest-authfile -d 'Look for logins for what is written to registries in this file only' -r -F
complete -c rpub -n "__fish_rpub_using_subcommand manifest; and __fish_seen_subcommand_from delete" -l registry-token-file -d 'Send the bearer token in this file to this registry (repeatable)' -r
complete -c rpub -n "__fish_rpub_using_subcommand manifest; and __fish_seen_subcommand_from delete" -l force-tag-dereference -d 'Take tags too: remove what they stand for, with all its other tags'
complete -c rpub -n "__fish_rpub_using_subcommand manifest; and __fish_seen_subcommand_from delete" -s q -l quiet -d 'Show no progress, print only the result'
complete -c rpub -n "__fish_rpub_using_subcommand manifest; and __fish_seen_subcommand_from delete" -l offline -d 'Open no connection to anybody: what is here counts, as it was last seen'
complete -c rpub -n "__fish_rpub_using_subcommand manifest; and __fish_seen_subcommand_from delete" -s h -l help -d 'Print help'
complete -c rpub -n "__fish_rpub_using_subcommand manifest; and __fish_seen_subcommand_from help" -f -a "get" -d 'Print a manifest or index, byte by byte as it is in the registry'
complete -c rpub -n "__fish_rpub_using_subcommand manifest; and __fish_seen_subcommand_from help" -f -a "head" -d 'Print a manifest\'s media type, digest and size'
complete -c rpub -n "__fish_rpub_using_subcommand manifest; and __fish_seen_subcommand_from help" -f -a "put" -d 'Push a manifest or index, byte by byte as it is in a file'
complete -c rpub -n "__fish_rpub_using_subcommand manifest; and __fish_seen_subcommand_from help" -f -a "diff" -d 'Show in what two manifests or indexes differ'
complete -c rpub -n "__fish_rpub_using_subcommand manifest; and __fish_seen_subcommand_from help" -f -a "rm" -d 'Remove a manifest and all its tags from a registry'
complete -c rpub -n "__fish_rpub_using_subcommand manifest; and __fish_seen_subcommand_from help" -f -a "help" -d 'Print this message or the help of the given subcommand(s)'
complete -c rpub -n "__fish_rpub_using_subcommand blob; and not __fish_seen_subcommand_from get fetch head put push rm remove delete help" -l store -d 'Keep images, layers and the build cache here [default: ~/.local/share/rpub]' -r -F
complete -c rpub -n "__fish_rpub_using_subcommand blob; and not __fish_seen_subcommand_from get fetch head put push rm remove delete help" -l cache-size -d 'Keep the build cache within this size [default: a fifth of the disk, 10 to 100 GiB]' -r
complete -c rpub -n "__fish_rpub_using_subcommand blob; and not __fish_seen_subcommand_from get fetch head put push rm remove delete help" -l progress -d 'Show progress as auto, tty, plain, quiet or rawjson' -r -f -a "auto\t'Bars on a terminal, plain lines elsewhere'
tty\t'Bars'
plain\t'Numbered lines'
quiet\t'Nothing but warnings and errors'
rawjson\t'One JSON object a line, for programs'"
complete -c rpub -n "__fish_rpub_using_subcommand blob; and not __fish_seen_subcommand_from get fetch head put push rm remove delete help" -l insecure-registry -d 'Allow TLS with any certificate, or else plain HTTP, for this registry (repeatable)' -r
complete -c rpub -n "__fish_rpub_using_subcommand blob; and not __fish_seen_subcommand_from get fetch head put push rm remove delete help" -l plain-http -d 'Reach this registry by plain HTTP (repeatable)' -r
complete -c rpub -n "__fish_rpub_using_subcommand blob; and not __fish_seen_subcommand_from get fetch head put push rm remove delete help" -l skip-tls-verify -d 'Do not verify the certificate of this registry (repeatable)' -r
complete -c rpub -n "__fish_rpub_using_subcommand blob; and not __fish_seen_subcommand_from get fetch head put push rm remove delete help" -l ca-file -d 'Also trust the certificate authorities in this PEM file (repeatable)' -r -F
complete -c rpub -n "__fish_rpub_using_subcommand blob; and not __fish_seen_subcommand_from get fetch head put push rm remove delete help" -l cert-dir -d 'Use the authorities (*.crt) and client certificate (*.cert, *.key) in this directory' -r -F
complete -c rpub -n "__fish_rpub_using_subcommand blob; and not __fish_seen_subcommand_from get fetch head put push rm remove delete help" -l registries-conf -d 'Read mirrors from this file [default: containers/registries.conf in ~/.config or /etc]' -r -F
complete -c rpub -n "__fish_rpub_using_subcommand blob; and not __fish_seen_subcommand_from get fetch head put push rm remove delete help" -l retry-times -d 'Try a failed request so many times more [default: 4]' -r
complete -c rpub -n "__fish_rpub_using_subcommand blob; and not __fish_seen_subcommand_from get fetch head put push rm remove delete help" -l retry-delay -d 'Wait so long before the first retry, twice as long before each further one [default: 500ms]' -r
complete -c rpub -n "__fish_rpub_using_subcommand blob; and not __fish_seen_subcommand_from get fetch head put push rm remove delete help" -l max-wait -d 'Give up at once when a registry asks for a longer wait than this [default: 1m]' -r
complete -c rpub -n "__fish_rpub_using_subcommand blob; and not __fish_seen_subcommand_from get fetch head put push rm remove delete help" -l idle-timeout -d 'Break off when a registry does nothing for so long [default: 90s]' -r
complete -c rpub -n "__fish_rpub_using_subcommand blob; and not __fish_seen_subcommand_from get fetch head put push rm remove delete help" -l concurrency -d 'Move at most so many blobs at once each way [default: what the registry takes, up to 16]' -r
complete -c rpub -n "__fish_rpub_using_subcommand blob; and not __fish_seen_subcommand_from get fetch head put push rm remove delete help" -l limit-rate -d 'Move at most so many bytes a second, both ways together, as in 5MB' -r
complete -c rpub -n "__fish_rpub_using_subcommand blob; and not __fish_seen_subcommand_from get fetch head put push rm remove delete help" -l resolve -d 'Connect to this address for a registry\'s host and port (repeatable)' -r
complete -c rpub -n "__fish_rpub_using_subcommand blob; and not __fish_seen_subcommand_from get fetch head put push rm remove delete help" -l http-header -d 'Send this header to registries; @FILE reads lines from a file (repeatable)' -r
complete -c rpub -n "__fish_rpub_using_subcommand blob; and not __fish_seen_subcommand_from get fetch head put push rm remove delete help" -l user-agent-prefix -d 'Put this text before rpub\'s own in the user agent' -r
complete -c rpub -n "__fish_rpub_using_subcommand blob; and not __fish_seen_subcommand_from get fetch head put push rm remove delete help" -l authfile -d 'Look for logins in this file only; login and logout change it' -r -F
complete -c rpub -n "__fish_rpub_using_subcommand blob; and not __fish_seen_subcommand_from get fetch head put push rm remove delete help" -l src-authfile -d 'Look for logins for what is read from registries in this file only' -r -F
complete -c rpub -n "__fish_rpub_using_subcommand blob; and not __fish_seen_subcommand_from get fetch head put push rm remove delete help" -l dest-authfile -d 'Look for logins for what is written to registries in this file only' -r -F
complete -c rpub -n "__fish_rpub_using_subcommand blob; and not __fish_seen_subcommand_from get fetch head put push rm remove delete help" -l registry-token-file -d 'Send the bearer token in this file to this registry (repeatable)' -r
complete -c rpub -n "__fish_rpub_using_subcommand blob; and not __fish_seen_subcommand_from get fetch head put push rm remove delete help" -s q -l quiet -d 'Show no progress, print only the result'
complete -c rpub -n "__fish_rpub_using_subcommand blob; and not __fish_seen_subcommand_from get fetch head put push rm remove delete help" -l offline -d 'Open no connection to anybody: what is here counts, as it was last seen'
complete -c rpub -n "__fish_rpub_using_subcommand blob; and not __fish_seen_subcommand_from get fetch head put push rm remove delete help" -s h -l help -d 'Print help'
complete -c rpub -n "__fish_rpub_using_subcommand blob; and not __fish_seen_subcommand_from get fetch head put push rm remove delete help" -f -a "get" -d 'Print a blob, or write it to a file'
complete -c rpub -n "__fish_rpub_using_subcommand blob; and not __fish_seen_subcommand_from get fetch head put push rm remove delete help" -f -a "fetch" -d 'Print a blob, or write it to a file'
complete -c rpub -n "__fish_rpub_using_subcommand blob; and not __fish_seen_subcommand_from get fetch head put push rm remove delete help" -f -a "head" -d 'Print a blob\'s digest and size, if it is there'
complete -c rpub -n "__fish_rpub_using_subcommand blob; and not __fish_seen_subcommand_from get fetch head put push rm remove delete help" -f -a "put" -d 'Push a file as a blob, and print its digest'
complete -c rpub -n "__fish_rpub_using_subcommand blob; and not __fish_seen_subcommand_from get fetch head put push rm remove delete help" -f -a "push" -d 'Push a file as a blob, and print its digest'
complete -c rpub -n "__fish_rpub_using_subcommand blob; and not __fish_seen_subcommand_from get fetch head put push rm remove delete help" -f -a "rm" -d 'Remove a blob from a registry'
complete -c rpub -n "__fish_rpub_using_subcommand blob; and not __fish_seen_subcommand_from get fetch head put push rm remove delete help" -f -a "remove" -d 'Remove a blob from a registry'
complete -c rpub -n "__fish_rpub_using_subcommand blob; and not __fish_seen_subcommand_from get fetch head put push rm remove delete help" -f -a "delete" -d 'Remove a blob from a registry'
complete -c rpub -n "__fish_rpub_using_subcommand blob; and not __fish_seen_subcommand_from get fetch head put push rm remove delete help" -f -a "help" -d 'Print this message or the help of the given subcommand(s)'
complete -c rpub -n "__fish_rpub_using_subcommand blob; and __fish_seen_subcommand_from get" -s o -l output -d 'Write to this file instead of standard output' -r -F
complete -c rpub -n "__fish_rpub_using_subcommand blob; and __fish_seen_subcommand_from get" -l store -d 'Keep images, layers and the build cache here [default: ~/.local/share/rpub]' -r -F
complete -c rpub -n "__fish_rpub_using_subcommand blob; and __fish_seen_subcommand_from get" -l cache-size -d 'Keep the build cache within this size [default: a fifth of the disk, 10 to 100 GiB]' -r
complete -c rpub -n "__fish_rpub_using_subcommand blob; and __fish_seen_subcommand_from get" -l progress -d 'Show progress as auto, tty, plain, quiet or rawjson' -r -f -a "auto\t'Bars on a terminal, plain lines elsewhere'
tty\t'Bars'
plain\t'Numbered lines'
quiet\t'Nothing but warnings and errors'
rawjson\t'One JSON object a line, for programs'"
complete -c rpub -n "__fish_rpub_using_subcommand blob; and __fish_seen_subcommand_from get" -l insecure-registry -d 'Allow TLS with any certificate, or else plain HTTP, for this registry (repeatable)' -r
complete -c rpub -n "__fish_rpub_using_subcommand blob; and __fish_seen_subcommand_from get" -l plain-http -d 'Reach this registry by plain HTTP (repeatable)' -r
complete -c rpub -n "__fish_rpub_using_subcommand blob; and __fish_seen_subcommand_from get" -l skip-tls-verify -d 'Do not verify the certificate of this registry (repeatable)' -r
complete -c rpub -n "__fish_rpub_using_subcommand blob; and __fish_seen_subcommand_from get" -l ca-file -d 'Also trust the certificate authorities in this PEM file (repeatable)' -r -F
complete -c rpub -n "__fish_rpub_using_subcommand blob; and __fish_seen_subcommand_from get" -l cert-dir -d 'Use the authorities (*.crt) and client certificate (*.cert, *.key) in this directory' -r -F
complete -c rpub -n "__fish_rpub_using_subcommand blob; and __fish_seen_subcommand_from get" -l registries-conf -d 'Read mirrors from this file [default: containers/registries.conf in ~/.config or /etc]' -r -F
complete -c rpub -n "__fish_rpub_using_subcommand blob; and __fish_seen_subcommand_from get" -l retry-times -d 'Try a failed request so many times more [default: 4]' -r
complete -c rpub -n "__fish_rpub_using_subcommand blob; and __fish_seen_subcommand_from get" -l retry-delay -d 'Wait so long before the first retry, twice as long before each further one [default: 500ms]' -r
complete -c rpub -n "__fish_rpub_using_subcommand blob; and __fish_seen_subcommand_from get" -l max-wait -d 'Give up at once when a registry asks for a longer wait than this [default: 1m]' -r
complete -c rpub -n "__fish_rpub_using_subcommand blob; and __fish_seen_subcommand_from get" -l idle-timeout -d 'Break off when a registry does nothing for so long [default: 90s]' -r
complete -c rpub -n "__fish_rpub_using_subcommand blob; and __fish_seen_subcommand_from get" -l concurrency -d 'Move at most so many blobs at once each way [default: what the registry takes, up to 16]' -r
complete -c rpub -n "__fish_rpub_using_subcommand blob; and __fish_seen_subcommand_from get" -l limit-rate -d 'Move at most so many bytes a second, both ways together, as in 5MB' -r
complete -c rpub -n "__fish_rpub_using_subcommand blob; and __fish_seen_subcommand_from get" -l resolve -d 'Connect to this address for a registry\'s host and port (repeatable)' -r
complete -c rpub -n "__fish_rpub_using_subcommand blob; and __fish_seen_subcommand_from get" -l http-header -d 'Send this header to registries; @FILE reads lines from a file (repeatable)' -r
complete -c rpub -n "__fish_rpub_using_subcommand blob; and __fish_seen_subcommand_from get" -l user-agent-prefix -d 'Put this text before rpub\'s own in the user agent' -r
complete -c rpub -n "__fish_rpub_using_subcommand blob; and __fish_seen_subcommand_from get" -l authfile -d 'Look for logins in this file only; login and logout change it' -r -F
complete -c rpub -n "__fish_rpub_using_subcommand blob; and __fish_seen_subcommand_from get" -l src-authfile -d 'Look for logins for what is read from registries in this file only' -r -F
complete -c rpub -n "__fish_rpub_using_subcommand blob; and __fish_seen_subcommand_from get" -l dest-authfile -d 'Look for logins for what is written to registries in this file only' -r -F
complete -c rpub -n "__fish_rpub_using_subcommand blob; and __fish_seen_subcommand_from get" -l registry-token-file -d 'Send the bearer token in this file to this registry (repeatable)' -r
complete -c rpub -n "__fish_rpub_using_subcommand blob; and __fish_seen_subcommand_from get" -s q -l quiet -d 'Show no progress, print only the result'
complete -c rpub -n "__fish_rpub_using_subcommand blob; and __fish_seen_subcommand_from get" -l offline -d 'Open no connection to anybody: what is here counts, as it was last seen'
complete -c rpub -n "__fish_rpub_using_subcommand blob; and __fish_seen_subcommand_from get" -s h -l help -d 'Print help'
complete -c rpub -n "__fish_rpub_using_subcommand blob; and __fish_seen_subcommand_from fetch" -s o -l output -d 'Write to this file instead of standard output' -r -F
complete -c rpub -n "__fish_rpub_using_subcommand blob; and __fish_seen_subcommand_from fetch" -l store -d 'Keep images, layers and the build cache here [default: ~/.local/share/rpub]' -r -F
complete -c rpub -n "__fish_rpub_using_subcommand blob; and __fish_seen_subcommand_from fetch" -l cache-size -d 'Keep the build cache within this size [default: a fifth of the disk, 10 to 100 GiB]' -r
complete -c rpub -n "__fish_rpub_using_subcommand blob; and __fish_seen_subcommand_from fetch" -l progress -d 'Show progress as auto, tty, plain, quiet or rawjson' -r -f -a "auto\t'Bars on a terminal, plain lines elsewhere'
tty\t'Bars'
plain\t'Numbered lines'
quiet\t'Nothing but warnings and errors'
rawjson\t'One JSON object a line, for programs'"
complete -c rpub -n "__fish_rpub_using_subcommand blob; and __fish_seen_subcommand_from fetch" -l insecure-registry -d 'Allow TLS with any certificate, or else plain HTTP, for this registry (repeatable)' -r
complete -c rpub -n "__fish_rpub_using_subcommand blob; and __fish_seen_subcommand_from fetch" -l plain-http -d 'Reach this registry by plain HTTP (repeatable)' -r
complete -c rpub -n "__fish_rpub_using_subcommand blob; and __fish_seen_subcommand_from fetch" -l skip-tls-verify -d 'Do not verify the certificate of this registry (repeatable)' -r
complete -c rpub -n "__fish_rpub_using_subcommand blob; and __fish_seen_subcommand_from fetch" -l ca-file -d 'Also trust the certificate authorities in this PEM file (repeatable)' -r -F
complete -c rpub -n "__fish_rpub_using_subcommand blob; and __fish_seen_subcommand_from fetch" -l cert-dir -d 'Use the authorities (*.crt) and client certificate (*.cert, *.key) in this directory' -r -F
complete -c rpub -n "__fish_rpub_using_subcommand blob; and __fish_seen_subcommand_from fetch" -l registries-conf -d 'Read mirrors from this file [default: containers/registries.conf in ~/.config or /etc]' -r -F
complete -c rpub -n "__fish_rpub_using_subcommand blob; and __fish_seen_subcommand_from fetch" -l retry-times -d 'Try a failed request so many times more [default: 4]' -r
complete -c rpub -n "__fish_rpub_using_subcommand blob; and __fish_seen_subcommand_from fetch" -l retry-delay -d 'Wait so long before the first retry, twice as long before each further one [default: 500ms]' -r
complete -c rpub -n "__fish_rpub_using_subcommand blob; and __fish_seen_subcommand_from fetch" -l max-wait -d 'Give up at once when a registry asks for a longer wait than this [default: 1m]' -r
complete -c rpub -n "__fish_rpub_using_subcommand blob; and __fish_seen_subcommand_from fetch" -l idle-timeout -d 'Break off when a registry does nothing for so long [default: 90s]' -r
complete -c rpub -n "__fish_rpub_using_subcommand blob; and __fish_seen_subcommand_from fetch" -l concurrency -d 'Move at most so many blobs at once each way [default: what the registry takes, up to 16]' -r
complete -c rpub -n "__fish_rpub_using_subcommand blob; and __fish_seen_subcommand_from fetch" -l limit-rate -d 'Move at most so many bytes a second, both ways together, as in 5MB' -r
complete -c rpub -n "__fish_rpub_using_subcommand blob; and __fish_seen_subcommand_from fetch" -l resolve -d 'Connect to this address for a registry\'s host and port (repeatable)' -r
complete -c rpub -n "__fish_rpub_using_subcommand blob; and __fish_seen_subcommand_from fetch" -l http-header -d 'Send this header to registries; @FILE reads lines from a file (repeatable)' -r
complete -c rpub -n "__fish_rpub_using_subcommand blob; and __fish_seen_subcommand_from fetch" -l user-agent-prefix -d 'Put this text before rpub\'s own in the user agent' -r
complete -c rpub -n "__fish_rpub_using_subcommand blob; and __fish_seen_subcommand_from fetch" -l authfile -d 'Look for logins in this file only; login and logout change it' -r -F
complete -c rpub -n "__fish_rpub_using_subcommand blob; and __fish_seen_subcommand_from fetch" -l src-authfile -d 'Look for logins for what is read from registries in this file only' -r -F
complete -c rpub -n "__fish_rpub_using_subcommand blob; and __fish_seen_subcommand_from fetch" -l dest-authfile -d 'Look for logins for what is written to registries in this file only' -r -F
complete -c rpub -n "__fish_rpub_using_subcommand blob; and __fish_seen_subcommand_from fetch" -l registry-token-file -d 'Send the bearer token in this file to this registry (repeatable)' -r
complete -c rpub -n "__fish_rpub_using_subcommand blob; and __fish_seen_subcommand_from fetch" -s q -l quiet -d 'Show no progress, print only the result'
complete -c rpub -n "__fish_rpub_using_subcommand blob; and __fish_seen_subcommand_from fetch" -l offline -d 'Open no connection to anybody: what is here counts, as it was last seen'
complete -c rpub -n "__fish_rpub_using_subcommand blob; and __fish_seen_subcommand_from fetch" -s h -l help -d 'Print help'
complete -c rpub -n "__fish_rpub_using_subcommand blob; and __fish_seen_subcommand_from head" -l format -d 'Print json, the template given, or with table before it a table: \'table {{.ID}}\'' -r
complete -c rpub -n "__fish_rpub_using_subcommand blob; and __fish_seen_subcommand_from head" -l store -d 'Keep images, layers and the build cache here [default: ~/.local/share/rpub]' -r -F
complete -c rpub -n "__fish_rpub_using_subcommand blob; and __fish_seen_subcommand_from head" -l cache-size -d 'Keep the build cache within this size [default: a fifth of the disk, 10 to 100 GiB]' -r
complete -c rpub -n "__fish_rpub_using_subcommand blob; and __fish_seen_subcommand_from head" -l progress -d 'Show progress as auto, tty, plain, quiet or rawjson' -r -f -a "auto\t'Bars on a terminal, plain lines elsewhere'
tty\t'Bars'
plain\t'Numbered lines'
quiet\t'Nothing but warnings and errors'
rawjson\t'One JSON object a line, for programs'"
complete -c rpub -n "__fish_rpub_using_subcommand blob; and __fish_seen_subcommand_from head" -l insecure-registry -d 'Allow TLS with any certificate, or else plain HTTP, for this registry (repeatable)' -r
complete -c rpub -n "__fish_rpub_using_subcommand blob; and __fish_seen_subcommand_from head" -l plain-http -d 'Reach this registry by plain HTTP (repeatable)' -r
complete -c rpub -n "__fish_rpub_using_subcommand blob; and __fish_seen_subcommand_from head" -l skip-tls-verify -d 'Do not verify the certificate of this registry (repeatable)' -r
complete -c rpub -n "__fish_rpub_using_subcommand blob; and __fish_seen_subcommand_from head" -l ca-file -d 'Also trust the certificate authorities in this PEM file (repeatable)' -r -F
complete -c rpub -n "__fish_rpub_using_subcommand blob; and __fish_seen_subcommand_from head" -l cert-dir -d 'Use the authorities (*.crt) and client certificate (*.cert, *.key) in this directory' -r -F
complete -c rpub -n "__fish_rpub_using_subcommand blob; and __fish_seen_subcommand_from head" -l registries-conf -d 'Read mirrors from this file [default: containers/registries.conf in ~/.config or /etc]' -r -F
complete -c rpub -n "__fish_rpub_using_subcommand blob; and __fish_seen_subcommand_from head" -l retry-times -d 'Try a failed request so many times more [default: 4]' -r
complete -c rpub -n "__fish_rpub_using_subcommand blob; and __fish_seen_subcommand_from head" -l retry-delay -d 'Wait so long before the first retry, twice as long before each further one [default: 500ms]' -r
complete -c rpub -n "__fish_rpub_using_subcommand blob; and __fish_seen_subcommand_from head" -l max-wait -d 'Give up at once when a registry asks for a longer wait than this [default: 1m]' -r
complete -c rpub -n "__fish_rpub_using_subcommand blob; and __fish_seen_subcommand_from head" -l idle-timeout -d 'Break off when a registry does nothing for so long [default: 90s]' -r
complete -c rpub -n "__fish_rpub_using_subcommand blob; and __fish_seen_subcommand_from head" -l concurrency -d 'Move at most so many blobs at once each way [default: what the registry takes, up to 16]' -r
complete -c rpub -n "__fish_rpub_using_subcommand blob; and __fish_seen_subcommand_from head" -l limit-rate -d 'Move at most so many bytes a second, both ways together, as in 5MB' -r
complete -c rpub -n "__fish_rpub_using_subcommand blob; and __fish_seen_subcommand_from head" -l resolve -d 'Connect to this address for a registry\'s host and port (repeatable)' -r
complete -c rpub -n "__fish_rpub_using_subcommand blob; and __fish_seen_subcommand_from head" -l http-header -d 'Send this header to registries; @FILE reads lines from a file (repeatable)' -r
complete -c rpub -n "__fish_rpub_using_subcommand blob; and __fish_seen_subcommand_from head" -l user-agent-prefix -d 'Put this text before rpub\'s own in the user agent' -r
complete -c rpub -n "__fish_rpub_using_subcommand blob; and __fish_seen_subcommand_from head" -l authfile -d 'Look for logins in this file only; login and logout change it' -r -F
complete -c rpub -n "__fish_rpub_using_subcommand blob; and __fish_seen_subcommand_from head" -l src-authfile -d 'Look for logins for what is read from registries in this file only' -r -F
complete -c rpub -n "__fish_rpub_using_subcommand blob; and __fish_seen_subcommand_from head" -l dest-authfile -d 'Look for logins for what is written to registries in this file only' -r -F
complete -c rpub -n "__fish_rpub_using_subcommand blob; and __fish_seen_subcommand_from head" -l registry-token-file -d 'Send the bearer token in this file to this registry (repeatable)' -r
complete -c rpub -n "__fish_rpub_using_subcommand blob; and __fish_seen_subcommand_from head" -s q -l quiet -d 'Show no progress, print only the result'
complete -c rpub -n "__fish_rpub_using_subcommand blob; and __fish_seen_subcommand_from head" -l offline -d 'Open no connection to anybody: what is here counts, as it was last seen'
complete -c rpub -n "__fish_rpub_using_subcommand blob; and __fish_seen_subcommand_from head" -s h -l help -d 'Print help'
complete -c rpub -n "__fish_rpub_using_subcommand blob; and __fish_seen_subcommand_from put" -l media-type -d 'Media type in the descriptor that --format prints' -r
complete -c rpub -n "__fish_rpub_using_subcommand blob; and __fish_seen_subcommand_from put" -l format -d 'Print json, the template given, or with table before it a table: \'table {{.ID}}\'' -r
complete -c rpub -n "__fish_rpub_using_subcommand blob; and __fish_seen_subcommand_from put" -l store -d 'Keep images, layers and the build cache here [default: ~/.local/share/rpub]' -r -F
complete -c rpub -n "__fish_rpub_using_subcommand blob; and __fish_seen_subcommand_from put" -l cache-size -d 'Keep the build cache within this size [default: a fifth of the disk, 10 to 100 GiB]' -r
complete -c rpub -n "__fish_rpub_using_subcommand blob; and __fish_seen_subcommand_from put" -l progress -d 'Show progress as auto, tty, plain, quiet or rawjson' -r -f -a "auto\t'Bars on a terminal, plain lines elsewhere'
tty\t'Bars'
plain\t'Numbered lines'
quiet\t'Nothing but warnings and errors'
rawjson\t'One JSON object a line, for programs'"
complete -c rpub -n "__fish_rpub_using_subcommand blob; and __fish_seen_subcommand_from put" -l insecure-registry -d 'Allow TLS with any certificate, or else plain HTTP, for this registry (repeatable)' -r
complete -c rpub -n "__fish_rpub_using_subcommand blob; and __fish_seen_subcommand_from put" -l plain-http -d 'Reach this registry by plain HTTP (repeatable)' -r
complete -c rpub -n "__fish_rpub_using_subcommand blob; and __fish_seen_subcommand_from put" -l skip-tls-verify -d 'Do not verify the certificate of this registry (repeatable)' -r
complete -c rpub -n "__fish_rpub_using_subcommand blob; and __fish_seen_subcommand_from put" -l ca-file -d 'Also trust the certificate authorities in this PEM file (repeatable)' -r -F
complete -c rpub -n "__fish_rpub_using_subcommand blob; and __fish_seen_subcommand_from put" -l cert-dir -d 'Use the authorities (*.crt) and client certificate (*.cert, *.key) in this directory' -r -F
complete -c rpub -n "__fish_rpub_using_subcommand blob; and __fish_seen_subcommand_from put" -l registries-conf -d 'Read mirrors from this file [default: containers/registries.conf in ~/.config or /etc]' -r -F
complete -c rpub -n "__fish_rpub_using_subcommand blob; and __fish_seen_subcommand_from put" -l retry-times -d 'Try a failed request so many times more [default: 4]' -r
complete -c rpub -n "__fish_rpub_using_subcommand blob; and __fish_seen_subcommand_from put" -l retry-delay -d 'Wait so long before the first retry, twice as long before each further one [default: 500ms]' -r
complete -c rpub -n "__fish_rpub_using_subcommand blob; and __fish_seen_subcommand_from put" -l max-wait -d 'Give up at once when a registry asks for a longer wait than this [default: 1m]' -r
complete -c rpub -n "__fish_rpub_using_subcommand blob; and __fish_seen_subcommand_from put" -l idle-timeout -d 'Break off when a registry does nothing for so long [default: 90s]' -r
complete -c rpub -n "__fish_rpub_using_subcommand blob; and __fish_seen_subcommand_from put" -l concurrency -d 'Move at most so many blobs at once each way [default: what the registry takes, up to 16]' -r
complete -c rpub -n "__fish_rpub_using_subcommand blob; and __fish_seen_subcommand_from put" -l limit-rate -d 'Move at most so many bytes a second, both ways together, as in 5MB' -r
complete -c rpub -n "__fish_rpub_using_subcommand blob; and __fish_seen_subcommand_from put" -l resolve -d 'Connect to this address for a registry\'s host and port (repeatable)' -r
complete -c rpub -n "__fish_rpub_using_subcommand blob; and __fish_seen_subcommand_from put" -l http-header -d 'Send this header to registries; @FILE reads lines from a file (repeatable)' -r
complete -c rpub -n "__fish_rpub_using_subcommand blob; and __fish_seen_subcommand_from put" -l user-agent-prefix -d 'Put this text before rpub\'s own in the user agent' -r
complete -c rpub -n "__fish_rpub_using_subcommand blob; and __fish_seen_subcommand_from put" -l authfile -d 'Look for logins in this file only; login and logout change it' -r -F
complete -c rpub -n "__fish_rpub_using_subcommand blob; and __fish_seen_subcommand_from put" -l src-authfile -d 'Look for logins for what is read from registries in this file only' -r -F
complete -c rpub -n "__fish_rpub_using_subcommand blob; and __fish_seen_subcommand_from put" -l dest-authfile -d 'Look for logins for what is written to registries in this file only' -r -F
complete -c rpub -n "__fish_rpub_using_subcommand blob; and __fish_seen_subcommand_from put" -l registry-token-file -d 'Send the bearer token in this file to this registry (repeatable)' -r
complete -c rpub -n "__fish_rpub_using_subcommand blob; and __fish_seen_subcommand_from put" -s q -l quiet -d 'Show no progress, print only the result'
complete -c rpub -n "__fish_rpub_using_subcommand blob; and __fish_seen_subcommand_from put" -l offline -d 'Open no connection to anybody: what is here counts, as it was last seen'
complete -c rpub -n "__fish_rpub_using_subcommand blob; and __fish_seen_subcommand_from put" -s h -l help -d 'Print help'
complete -c rpub -n "__fish_rpub_using_subcommand blob; and __fish_seen_subcommand_from push" -l media-type -d 'Media type in the descriptor that --format prints' -r
complete -c rpub -n "__fish_rpub_using_subcommand blob; and __fish_seen_subcommand_from push" -l format -d 'Print json, the template given, or with table before it a table: \'table {{.ID}}\'' -r
complete -c rpub -n "__fish_rpub_using_subcommand blob; and __fish_seen_subcommand_from push" -l store -d 'Keep images, layers and the build cache here [default: ~/.local/share/rpub]' -r -F
complete -c rpub -n "__fish_rpub_using_subcommand blob; and __fish_seen_subcommand_from push" -l cache-size -d 'Keep the build cache within this size [default: a fifth of the disk, 10 to 100 GiB]' -r
complete -c rpub -n "__fish_rpub_using_subcommand blob; and __fish_seen_subcommand_from push" -l progress -d 'Show progress as auto, tty, plain, quiet or rawjson' -r -f -a "auto\t'Bars on a terminal, plain lines elsewhere'
tty\t'Bars'
plain\t'Numbered lines'
quiet\t'Nothing but warnings and errors'
rawjson\t'One JSON object a line, for programs'"
complete -c rpub -n "__fish_rpub_using_subcommand blob; and __fish_seen_subcommand_from push" -l insecure-registry -d 'Allow TLS with any certificate, or else plain HTTP, for this registry (repeatable)' -r
complete -c rpub -n "__fish_rpub_using_subcommand blob; and __fish_seen_subcommand_from push" -l plain-http -d 'Reach this registry by plain HTTP (repeatable)' -r
complete -c rpub -n "__fish_rpub_using_subcommand blob; and __fish_seen_subcommand_from push" -l skip-tls-verify -d 'Do not verify the certificate of this registry (repeatable)' -r
complete -c rpub -n "__fish_rpub_using_subcommand blob; and __fish_seen_subcommand_from push" -l ca-file -d 'Also trust the certificate authorities in this PEM file (repeatable)' -r -F
complete -c rpub -n "__fish_rpub_using_subcommand blob; and __fish_seen_subcommand_from push" -l cert-dir -d 'Use the authorities (*.crt) and client certificate (*.cert, *.key) in this directory' -r -F
complete -c rpub -n "__fish_rpub_using_subcommand blob; and __fish_seen_subcommand_from push" -l registries-conf -d 'Read mirrors from this file [default: containers/registries.conf in ~/.config or /etc]' -r -F
complete -c rpub -n "__fish_rpub_using_subcommand blob; and __fish_seen_subcommand_from push" -l retry-times -d 'Try a failed request so many times more [default: 4]' -r
complete -c rpub -n "__fish_rpub_using_subcommand blob; and __fish_seen_subcommand_from push" -l retry-delay -d 'Wait so long before the first retry, twice as long before each further one [default: 500ms]' -r
complete -c rpub -n "__fish_rpub_using_subcommand blob; and __fish_seen_subcommand_from push" -l max-wait -d 'Give up at once when a registry asks for a longer wait than this [default: 1m]' -r
complete -c rpub -n "__fish_rpub_using_subcommand blob; and __fish_seen_subcommand_from push" -l idle-timeout -d 'Break off when a registry does nothing for so long [default: 90s]' -r
complete -c rpub -n "__fish_rpub_using_subcommand blob; and __fish_seen_subcommand_from push" -l concurrency -d 'Move at most so many blobs at once each way [default: what the registry takes, up to 16]' -r
complete -c rpub -n "__fish_rpub_using_subcommand blob; and __fish_seen_subcommand_from push" -l limit-rate -d 'Move at most so many bytes a second, both ways together, as in 5MB' -r
complete -c rpub -n "__fish_rpub_using_subcommand blob; and __fish_seen_subcommand_from push" -l resolve -d 'Connect to this address for a registry\'s host and port (repeatable)' -r
complete -c rpub -n "__fish_rpub_using_subcommand blob; and __fish_seen_subcommand_from push" -l http-header -d 'Send this header to registries; @FILE reads lines from a file (repeatable)' -r
complete -c rpub -n "__fish_rpub_using_subcommand blob; and __fish_seen_subcommand_from push" -l user-agent-prefix -d 'Put this text before rpub\'s own in the user agent' -r
complete -c rpub -n "__fish_rpub_using_subcommand blob; and __fish_seen_subcommand_from push" -l authfile -d 'Look for logins in this file only; login and logout change it' -r -F
complete -c rpub -n "__fish_rpub_using_subcommand blob; and __fish_seen_subcommand_from push" -l src-authfile -d 'Look for logins for what is read from registries in this file only' -r -F
complete -c rpub -n "__fish_rpub_using_subcommand blob; and __fish_seen_subcommand_from push" -l dest-authfile -d 'Look for logins for what is written to registries in this file only' -r -F
complete -c rpub -n "__fish_rpub_using_subcommand blob; and __fish_seen_subcommand_from push" -l registry-token-file -d 'Send the bearer token in this file to this registry (repeatable)' -r
complete -c rpub -n "__fish_rpub_using_subcommand blob; and __fish_seen_subcommand_from push" -s q -l quiet -d 'Show no progress, print only the result'
complete -c rpub -n "__fish_rpub_using_subcommand blob; and __fish_seen_subcommand_from push" -l offline -d 'Open no connection to anybody: what is here counts, as it was last seen'
complete -c rpub -n "__fish_rpub_using_subcommand blob; and __fish_seen_subcommand_from push" -s h -l help -d 'Print help'
complete -c rpub -n "__fish_rpub_using_subcommand blob; and __fish_seen_subcommand_from rm" -l format -d 'Print json, the template given, or with table before it a table: \'table {{.ID}}\'' -r
complete -c rpub -n "__fish_rpub_using_subcommand blob; and __fish_seen_subcommand_from rm" -l store -d 'Keep images, layers and the build cache here [default: ~/.local/share/rpub]' -r -F
complete -c rpub -n "__fish_rpub_using_subcommand blob; and __fish_seen_subcommand_from rm" -l cache-size -d 'Keep the build cache within this size [default: a fifth of the disk, 10 to 100 GiB]' -r
complete -c rpub -n "__fish_rpub_using_subcommand blob; and __fish_seen_subcommand_from rm" -l progress -d 'Show progress as auto, tty, plain, quiet or rawjson' -r -f -a "auto\t'Bars on a terminal, plain lines elsewhere'
tty\t'Bars'
plain\t'Numbered lines'
quiet\t'Nothing but warnings and errors'
rawjson\t'One JSON object a line, for programs'"
complete -c rpub -n "__fish_rpub_using_subcommand blob; and __fish_seen_subcommand_from rm" -l insecure-registry -d 'Allow TLS with any certificate, or else plain HTTP, for this registry (repeatable)' -r
complete -c rpub -n "__fish_rpub_using_subcommand blob; and __fish_seen_subcommand_from rm" -l plain-http -d 'Reach this registry by plain HTTP (repeatable)' -r
complete -c rpub -n "__fish_rpub_using_subcommand blob; and __fish_seen_subcommand_from rm" -l skip-tls-verify -d 'Do not verify the certificate of this registry (repeatable)' -r
complete -c rpub -n "__fish_rpub_using_subcommand blob; and __fish_seen_subcommand_from rm" -l ca-file -d 'Also trust the certificate authorities in this PEM file (repeatable)' -r -F
complete -c rpub -n "__fish_rpub_using_subcommand blob; and __fish_seen_subcommand_from rm" -l cert-dir -d 'Use the authorities (*.crt) and client certificate (*.cert, *.key) in this directory' -r -F
complete -c rpub -n "__fish_rpub_using_subcommand blob; and __fish_seen_subcommand_from rm" -l registries-conf -d 'Read mirrors from this file [default: containers/registries.conf in ~/.config or /etc]' -r -F
complete -c rpub -n "__fish_rpub_using_subcommand blob; and __fish_seen_subcommand_from rm" -l retry-times -d 'Try a failed request so many times more [default: 4]' -r
complete -c rpub -n "__fish_rpub_using_subcommand blob; and __fish_seen_subcommand_from rm" -l retry-delay -d 'Wait so long before the first retry, twice as long before each further one [default: 500ms]' -r
complete -c rpub -n "__fish_rpub_using_subcommand blob; and __fish_seen_subcommand_from rm" -l max-wait -d 'Give up at once when a registry asks for a longer wait than this [default: 1m]' -r
complete -c rpub -n "__fish_rpub_using_subcommand blob; and __fish_seen_subcommand_from rm" -l idle-timeout -d 'Break off when a registry does nothing for so long [default: 90s]' -r
complete -c rpub -n "__fish_rpub_using_subcommand blob; and __fish_seen_subcommand_from rm" -l concurrency -d 'Move at most so many blobs at once each way [default: what the registry takes, up to 16]' -r
complete -c rpub -n "__fish_rpub_using_subcommand blob; and __fish_seen_subcommand_from rm" -l limit-rate -d 'Move at most so many bytes a second, both ways together, as in 5MB' -r
complete -c rpub -n "__fish_rpub_using_subcommand blob; and __fish_seen_subcommand_from rm" -l resolve -d 'Connect to this address for a registry\'s host and port (repeatable)' -r
complete -c rpub -n "__fish_rpub_using_subcommand blob; and __fish_seen_subcommand_from rm" -l http-header -d 'Send this header to registries; @FILE reads lines from a file (repeatable)' -r
complete -c rpub -n "__fish_rpub_using_subcommand blob; and __fish_seen_subcommand_from rm" -l user-agent-prefix -d 'Put this text before rpub\'s own in the user agent' -r
complete -c rpub -n "__fish_rpub_using_subcommand blob; and __fish_seen_subcommand_from rm" -l authfile -d 'Look for logins in this file only; login and logout change it' -r -F
complete -c rpub -n "__fish_rpub_using_subcommand blob; and __fish_seen_subcommand_from rm" -l src-authfile -d 'Look for logins for what is read from registries in this file only' -r -F
complete -c rpub -n "__fish_rpub_using_subcommand blob; and __fish_seen_subcommand_from rm" -l dest-authfile -d 'Look for logins for what is written to registries in this file only' -r -F
complete -c rpub -n "__fish_rpub_using_subcommand blob; and __fish_seen_subcommand_from rm" -l registry-token-file -d 'Send the bearer token in this file to this registry (repeatable)' -r
complete -c rpub -n "__fish_rpub_using_subcommand blob; and __fish_seen_subcommand_from rm" -s q -l quiet -d 'Show no progress, print only the result'
complete -c rpub -n "__fish_rpub_using_subcommand blob; and __fish_seen_subcommand_from rm" -l offline -d 'Open no connection to anybody: what is here counts, as it was last seen'
complete -c rpub -n "__fish_rpub_using_subcommand blob; and __fish_seen_subcommand_from rm" -s h -l help -d 'Print help'
complete -c rpub -n "__fish_rpub_using_subcommand blob; and __fish_seen_subcommand_from remove" -l format -d 'Print json, the template given, or with table before it a table: \'table {{.ID}}\'' -r
complete -c rpub -n "__fish_rpub_using_subcommand blob; and __fish_seen_subcommand_from remove" -l store -d 'Keep images, layers and the build cache here [default: ~/.local/share/rpub]' -r -F
complete -c rpub -n "__fish_rpub_using_subcommand blob; and __fish_seen_subcommand_from remove" -l cache-size -d 'Keep the build cache within this size [default: a fifth of the disk, 10 to 100 GiB]' -r
complete -c rpub -n "__fish_rpub_using_subcommand blob; and __fish_seen_subcommand_from remove" -l progress -d 'Show progress as auto, tty, plain, quiet or rawjson' -r -f -a "auto\t'Bars on a terminal, plain lines elsewhere'
tty\t'Bars'
plain\t'Numbered lines'
quiet\t'Nothing but warnings and errors'
rawjson\t'One JSON object a line, for programs'"
complete -c rpub -n "__fish_rpub_using_subcommand blob; and __fish_seen_subcommand_from remove" -l insecure-registry -d 'Allow TLS with any certificate, or else plain HTTP, for this registry (repeatable)' -r
complete -c rpub -n "__fish_rpub_using_subcommand blob; and __fish_seen_subcommand_from remove" -l plain-http -d 'Reach this registry by plain HTTP (repeatable)' -r
complete -c rpub -n "__fish_rpub_using_subcommand blob; and __fish_seen_subcommand_from remove" -l skip-tls-verify -d 'Do not verify the certificate of this registry (repeatable)' -r
complete -c rpub -n "__fish_rpub_using_subcommand blob; and __fish_seen_subcommand_from remove" -l ca-file -d 'Also trust the certificate authorities in this PEM file (repeatable)' -r -F
complete -c rpub -n "__fish_rpub_using_subcommand blob; and __fish_seen_subcommand_from remove" -l cert-dir -d 'Use the authorities (*.crt) and client certificate (*.cert, *.key) in this directory' -r -F
complete -c rpub -n "__fish_rpub_using_subcommand blob; and __fish_seen_subcommand_from remove" -l registries-conf -d 'Read mirrors from this file [default: containers/registries.conf in ~/.config or /etc]' -r -F
complete -c rpub -n "__fish_rpub_using_subcommand blob; and __fish_seen_subcommand_from remove" -l retry-times -d 'Try a failed request so many times more [default: 4]' -r
complete -c rpub -n "__fish_rpub_using_subcommand blob; and __fish_seen_subcommand_from remove" -l retry-delay -d 'Wait so long before the first retry, twice as long before each further one [default: 500ms]' -r
complete -c rpub -n "__fish_rpub_using_subcommand blob; and __fish_seen_subcommand_from remove" -l max-wait -d 'Give up at once when a registry asks for a longer wait than this [default: 1m]' -r
complete -c rpub -n "__fish_rpub_using_subcommand blob; and __fish_seen_subcommand_from remove" -l idle-timeout -d 'Break off when a registry does nothing for so long [default: 90s]' -r
complete -c rpub -n "__fish_rpub_using_subcommand blob; and __fish_seen_subcommand_from remove" -l concurrency -d 'Move at most so many blobs at once each way [default: what the registry takes, up to 16]' -r
complete -c rpub -n "__fish_rpub_using_subcommand blob; and __fish_seen_subcommand_from remove" -l limit-rate -d 'Move at most so many bytes a second, both ways together, as in 5MB' -r
complete -c rpub -n "__fish_rpub_using_subcommand blob; and __fish_seen_subcommand_from remove" -l resolve -d 'Connect to this address for a registry\'s host and port (repeatable)' -r
complete -c rpub -n "__fish_rpub_using_subcommand blob; and __fish_seen_subcommand_from remove" -l http-header -d 'Send this header to registries; @FILE reads lines from a file (repeatable)' -r
complete -c rpub -n "__fish_rpub_using_subcommand blob; and __fish_seen_subcommand_from remove" -l user-agent-prefix -d 'Put this text before rpub\'s own in the user agent' -r
complete -c rpub -n "__fish_rpub_using_subcommand blob; and __fish_seen_subcommand_from remove" -l authfile -d 'Look for logins in this file only; login and logout change it' -r -F
complete -c rpub -n "__fish_rpub_using_subcommand blob; and __fish_seen_subcommand_from remove" -l src-authfile -d 'Look for logins for what is read from registries in this file only' -r -F
complete -c rpub -n "__fish_rpub_using_subcommand blob; and __fish_seen_subcommand_from remove" -l dest-authfile -d 'Look for logins for what is written to registries in this file only' -r -F
complete -c rpub -n "__fish_rpub_using_subcommand blob; and __fish_seen_subcommand_from remove" -l registry-token-file -d 'Send the bearer token in this file to this registry (repeatable)' -r
complete -c rpub -n "__fish_rpub_using_subcommand blob; and __fish_seen_subcommand_from remove" -s q -l quiet -d 'Show no progress, print only the result'
complete -c rpub -n "__fish_rpub_using_subcommand blob; and __fish_seen_subcommand_from remove" -l offline -d 'Open no connection to anybody: what is here counts, as it was last seen'
complete -c rpub -n "__fish_rpub_using_subcommand blob; and __fish_seen_subcommand_from remove" -s h -l help -d 'Print help'
complete -c rpub -n "__fish_rpub_using_subcommand blob; and __fish_seen_subcommand_from delete" -l format -d 'Print json, the template given, or with table before it a table: \'table {{.ID}}\'' -r
complete -c rpub -n "__fish_rpub_using_subcommand blob; and __fish_seen_subcommand_from delete" -l store -d 'Keep images, layers and the build cache here [default: ~/.local/share/rpub]' -r -F
complete -c rpub -n "__fish_rpub_using_subcommand blob; and __fish_seen_subcommand_from delete" -l cache-size -d 'Keep the build cache within this size [default: a fifth of the disk, 10 to 100 GiB]' -r
complete -c rpub -n "__fish_rpub_using_subcommand blob; and __fish_seen_subcommand_from delete" -l progress -d 'Show progress as auto, tty, plain, quiet or rawjson' -r -f -a "auto\t'Bars on a terminal, plain lines elsewhere'
tty\t'Bars'
plain\t'Numbered lines'
quiet\t'Nothing but warnings and errors'
rawjson\t'One JSON object a line, for programs'"
complete -c rpub -n "__fish_rpub_using_subcommand blob; and __fish_seen_subcommand_from delete" -l insecure-registry -d 'Allow TLS with any certificate, or else plain HTTP, for this registry (repeatable)' -r
complete -c rpub -n "__fish_rpub_using_subcommand blob; and __fish_seen_subcommand_from delete" -l plain-http -d 'Reach this registry by plain HTTP (repeatable)' -r
complete -c rpub -n "__fish_rpub_using_subcommand blob; and __fish_seen_subcommand_from delete" -l skip-tls-verify -d 'Do not verify the certificate of this registry (repeatable)' -r
complete -c rpub -n "__fish_rpub_using_subcommand blob; and __fish_seen_subcommand_from delete" -l ca-file -d 'Also trust the certificate authorities in this PEM file (repeatable)' -r -F
complete -c rpub -n "__fish_rpub_using_subcommand blob; and __fish_seen_subcommand_from delete" -l cert-dir -d 'Use the authorities (*.crt) and client certificate (*.cert, *.key) in this directory' -r -F
complete -c rpub -n "__fish_rpub_using_subcommand blob; and __fish_seen_subcommand_from delete" -l registries-conf -d 'Read mirrors from this file [default: containers/registries.conf in ~/.config or /etc]' -r -F
complete -c rpub -n "__fish_rpub_using_subcommand blob; and __fish_seen_subcommand_from delete" -l retry-times -d 'Try a failed request so many times more [default: 4]' -r
complete -c rpub -n "__fish_rpub_using_subcommand blob; and __fish_seen_subcommand_from delete" -l retry-delay -d 'Wait so long before the first retry, twice as long before each further one [default: 500ms]' -r
complete -c rpub -n "__fish_rpub_using_subcommand blob; and __fish_seen_subcommand_from delete" -l max-wait -d 'Give up at once when a registry asks for a longer wait than this [default: 1m]' -r
complete -c rpub -n "__fish_rpub_using_subcommand blob; and __fish_seen_subcommand_from delete" -l idle-timeout -d 'Break off when a registry does nothing for so long [default: 90s]' -r
complete -c rpub -n "__fish_rpub_using_subcommand blob; and __fish_seen_subcommand_from delete" -l concurrency -d 'Move at most so many blobs at once each way [default: what the registry takes, up to 16]' -r
complete -c rpub -n "__fish_rpub_using_subcommand blob; and __fish_seen_subcommand_from delete" -l limit-rate -d 'Move at most so many bytes a second, both ways together, as in 5MB' -r
complete -c rpub -n "__fish_rpub_using_subcommand blob; and __fish_seen_subcommand_from delete" -l resolve -d 'Connect to this address for a registry\'s host and port (repeatable)' -r
complete -c rpub -n "__fish_rpub_using_subcommand blob; and __fish_seen_subcommand_from delete" -l http-header -d 'Send this header to registries; @FILE reads lines from a file (repeatable)' -r
complete -c rpub -n "__fish_rpub_using_subcommand blob; and __fish_seen_subcommand_from delete" -l user-agent-prefix -d 'Put this text before rpub\'s own in the user agent' -r
complete -c rpub -n "__fish_rpub_using_subcommand blob; and __fish_seen_subcommand_from delete" -l authfile -d 'Look for logins in this file only; login and logout change it' -r -F
complete -c rpub -n "__fish_rpub_using_subcommand blob; and __fish_seen_subcommand_from delete" -l src-authfile -d 'Look for logins for what is read from registries in this file only' -r -F
complete -c rpub -n "__fish_rpub_using_subcommand blob; and __fish_seen_subcommand_from delete" -l dest-authfile -d 'Look for logins for what is written to registries in this file only' -r -F
complete -c rpub -n "__fish_rpub_using_subcommand blob; and __fish_seen_subcommand_from delete" -l registry-token-file -d 'Send the bearer token in this file to this registry (repeatable)' -r
complete -c rpub -n "__fish_rpub_using_subcommand blob; and __fish_seen_subcommand_from delete" -s q -l quiet -d 'Show no progress, print only the result'
complete -c rpub -n "__fish_rpub_using_subcommand blob; and __fish_seen_subcommand_from delete" -l offline -d 'Open no connection to anybody: what is here counts, as it was last seen'
complete -c rpub -n "__fish_rpub_using_subcommand blob; and __fish_seen_subcommand_from delete" -s h -l help -d 'Print help'
complete -c rpub -n "__fish_rpub_using_subcommand blob; and __fish_seen_subcommand_from help" -f -a "get" -d 'Print a blob, or write it to a file'
complete -c rpub -n "__fish_rpub_using_subcommand blob; and __fish_seen_subcommand_from help" -f -a "head" -d 'Print a blob\'s digest and size, if it is there'
complete -c rpub -n "__fish_rpub_using_subcommand blob; and __fish_seen_subcommand_from help" -f -a "put" -d 'Push a file as a blob, and print its digest'
complete -c rpub -n "__fish_rpub_using_subcommand blob; and __fish_seen_subcommand_from help" -f -a "rm" -d 'Remove a blob from a registry'
complete -c rpub -n "__fish_rpub_using_subcommand blob; and __fish_seen_subcommand_from help" -f -a "help" -d 'Print this message or the help of the given subcommand(s)'
complete -c rpub -n "__fish_rpub_using_subcommand repo; and not __fish_seen_subcommand_from ls list help" -l store -d 'Keep images, layers and the build cache here [default: ~/.local/share/rpub]' -r -F
complete -c rpub -n "__fish_rpub_using_subcommand repo; and not __fish_seen_subcommand_from ls list help" -l cache-size -d 'Keep the build cache within this size [default: a fifth of the disk, 10 to 100 GiB]' -r
complete -c rpub -n "__fish_rpub_using_subcommand repo; and not __fish_seen_subcommand_from ls list help" -l progress -d 'Show progress as auto, tty, plain, quiet or rawjson' -r -f -a "auto\t'Bars on a terminal, plain lines elsewhere'
tty\t'Bars'
plain\t'Numbered lines'
quiet\t'Nothing but warnings and errors'
rawjson\t'One JSON object a line, for programs'"
complete -c rpub -n "__fish_rpub_using_subcommand repo; and not __fish_seen_subcommand_from ls list help" -l insecure-registry -d 'Allow TLS with any certificate, or else plain HTTP, for this registry (repeatable)' -r
complete -c rpub -n "__fish_rpub_using_subcommand repo; and not __fish_seen_subcommand_from ls list help" -l plain-http -d 'Reach this registry by plain HTTP (repeatable)' -r
complete -c rpub -n "__fish_rpub_using_subcommand repo; and not __fish_seen_subcommand_from ls list help" -l skip-tls-verify -d 'Do not verify the certificate of this registry (repeatable)' -r
complete -c rpub -n "__fish_rpub_using_subcommand repo; and not __fish_seen_subcommand_from ls list help" -l ca-file -d 'Also trust the certificate authorities in this PEM file (repeatable)' -r -F
complete -c rpub -n "__fish_rpub_using_subcommand repo; and not __fish_seen_subcommand_from ls list help" -l cert-dir -d 'Use the authorities (*.crt) and client certificate (*.cert, *.key) in this directory' -r -F
complete -c rpub -n "__fish_rpub_using_subcommand repo; and not __fish_seen_subcommand_from ls list help" -l registries-conf -d 'Read mirrors from this file [default: containers/registries.conf in ~/.config or /etc]' -r -F
complete -c rpub -n "__fish_rpub_using_subcommand repo; and not __fish_seen_subcommand_from ls list help" -l retry-times -d 'Try a failed request so many times more [default: 4]' -r
complete -c rpub -n "__fish_rpub_using_subcommand repo; and not __fish_seen_subcommand_from ls list help" -l retry-delay -d 'Wait so long before the first retry, twice as long before each further one [default: 500ms]' -r
complete -c rpub -n "__fish_rpub_using_subcommand repo; and not __fish_seen_subcommand_from ls list help" -l max-wait -d 'Give up at once when a registry asks for a longer wait than this [default: 1m]' -r
complete -c rpub -n "__fish_rpub_using_subcommand repo; and not __fish_seen_subcommand_from ls list help" -l idle-timeout -d 'Break off when a registry does nothing for so long [default: 90s]' -r
complete -c rpub -n "__fish_rpub_using_subcommand repo; and not __fish_seen_subcommand_from ls list help" -l concurrency -d 'Move at most so many blobs at once each way [default: what the registry takes, up to 16]' -r
complete -c rpub -n "__fish_rpub_using_subcommand repo; and not __fish_seen_subcommand_from ls list help" -l limit-rate -d 'Move at most so many bytes a second, both ways together, as in 5MB' -r
complete -c rpub -n "__fish_rpub_using_subcommand repo; and not __fish_seen_subcommand_from ls list help" -l resolve -d 'Connect to this address for a registry\'s host and port (repeatable)' -r
complete -c rpub -n "__fish_rpub_using_subcommand repo; and not __fish_seen_subcommand_from ls list help" -l http-header -d 'Send this header to registries; @FILE reads lines from a file (repeatable)' -r
complete -c rpub -n "__fish_rpub_using_subcommand repo; and not __fish_seen_subcommand_from ls list help" -l user-agent-prefix -d 'Put this text before rpub\'s own in the user agent' -r
complete -c rpub -n "__fish_rpub_using_subcommand repo; and not __fish_seen_subcommand_from ls list help" -l authfile -d 'Look for logins in this file only; login and logout change it' -r -F
complete -c rpub -n "__fish_rpub_using_subcommand repo; and not __fish_seen_subcommand_from ls list help" -l src-authfile -d 'Look for logins for what is read from registries in this file only' -r -F
complete -c rpub -n "__fish_rpub_using_subcommand repo; and not __fish_seen_subcommand_from ls list help" -l dest-authfile -d 'Look for logins for what is written to registries in this file only' -r -F
complete -c rpub -n "__fish_rpub_using_subcommand repo; and not __fish_seen_subcommand_from ls list help" -l registry-token-file -d 'Send the bearer token in this file to this registry (repeatable)' -r
complete -c rpub -n "__fish_rpub_using_subcommand repo; and not __fish_seen_subcommand_from ls list help" -s q -l quiet -d 'Show no progress, print only the result'
complete -c rpub -n "__fish_rpub_using_subcommand repo; and not __fish_seen_subcommand_from ls list help" -l offline -d 'Open no connection to anybody: what is here counts, as it was last seen'
complete -c rpub -n "__fish_rpub_using_subcommand repo; and not __fish_seen_subcommand_from ls list help" -s h -l help -d 'Print help'
complete -c rpub -n "__fish_rpub_using_subcommand repo; and not __fish_seen_subcommand_from ls list help" -f -a "ls" -d 'List the repositories of a registry'
complete -c rpub -n "__fish_rpub_using_subcommand repo; and not __fish_seen_subcommand_from ls list help" -f -a "list" -d 'List the repositories of a registry'
complete -c rpub -n "__fish_rpub_using_subcommand repo; and not __fish_seen_subcommand_from ls list help" -f -a "help" -d 'Print this message or the help of the given subcommand(s)'
complete -c rpub -n "__fish_rpub_using_subcommand repo; and __fish_seen_subcommand_from ls" -l include -d 'List only names that this regular expression matches from start to end (repeatable)' -r
complete -c rpub -n "__fish_rpub_using_subcommand repo; and __fish_seen_subcommand_from ls" -l exclude -d 'Leave out names that this regular expression matches from start to end (repeatable)' -r
complete -c rpub -n "__fish_rpub_using_subcommand repo; and __fish_seen_subcommand_from ls" -l last -d 'List only names after this one, in the registry\'s order' -r
complete -c rpub -n "__fish_rpub_using_subcommand repo; and __fish_seen_subcommand_from ls" -l limit -d 'List this many names at most' -r
complete -c rpub -n "__fish_rpub_using_subcommand repo; and __fish_seen_subcommand_from ls" -l format -d 'Print json, the template given, or with table before it a table: \'table {{.ID}}\'' -r
complete -c rpub -n "__fish_rpub_using_subcommand repo; and __fish_seen_subcommand_from ls" -l store -d 'Keep images, layers and the build cache here [default: ~/.local/share/rpub]' -r -F
complete -c rpub -n "__fish_rpub_using_subcommand repo; and __fish_seen_subcommand_from ls" -l cache-size -d 'Keep the build cache within this size [default: a fifth of the disk, 10 to 100 GiB]' -r
complete -c rpub -n "__fish_rpub_using_subcommand repo; and __fish_seen_subcommand_from ls" -l progress -d 'Show progress as auto, tty, plain, quiet or rawjson' -r -f -a "auto\t'Bars on a terminal, plain lines elsewhere'
tty\t'Bars'
plain\t'Numbered lines'
quiet\t'Nothing but warnings and errors'
rawjson\t'One JSON object a line, for programs'"
complete -c rpub -n "__fish_rpub_using_subcommand repo; and __fish_seen_subcommand_from ls" -l insecure-registry -d 'Allow TLS with any certificate, or else plain HTTP, for this registry (repeatable)' -r
complete -c rpub -n "__fish_rpub_using_subcommand repo; and __fish_seen_subcommand_from ls" -l plain-http -d 'Reach this registry by plain HTTP (repeatable)' -r
complete -c rpub -n "__fish_rpub_using_subcommand repo; and __fish_seen_subcommand_from ls" -l skip-tls-verify -d 'Do not verify the certificate of this registry (repeatable)' -r
complete -c rpub -n "__fish_rpub_using_subcommand repo; and __fish_seen_subcommand_from ls" -l ca-file -d 'Also trust the certificate authorities in this PEM file (repeatable)' -r -F
complete -c rpub -n "__fish_rpub_using_subcommand repo; and __fish_seen_subcommand_from ls" -l cert-dir -d 'Use the authorities (*.crt) and client certificate (*.cert, *.key) in this directory' -r -F
complete -c rpub -n "__fish_rpub_using_subcommand repo; and __fish_seen_subcommand_from ls" -l registries-conf -d 'Read mirrors from this file [default: containers/registries.conf in ~/.config or /etc]' -r -F
complete -c rpub -n "__fish_rpub_using_subcommand repo; and __fish_seen_subcommand_from ls" -l retry-times -d 'Try a failed request so many times more [default: 4]' -r
complete -c rpub -n "__fish_rpub_using_subcommand repo; and __fish_seen_subcommand_from ls" -l retry-delay -d 'Wait so long before the first retry, twice as long before each further one [default: 500ms]' -r
complete -c rpub -n "__fish_rpub_using_subcommand repo; and __fish_seen_subcommand_from ls" -l max-wait -d 'Give up at once when a registry asks for a longer wait than this [default: 1m]' -r
complete -c rpub -n "__fish_rpub_using_subcommand repo; and __fish_seen_subcommand_from ls" -l idle-timeout -d 'Break off when a registry does nothing for so long [default: 90s]' -r
complete -c rpub -n "__fish_rpub_using_subcommand repo; and __fish_seen_subcommand_from ls" -l concurrency -d 'Move at most so many blobs at once each way [default: what the registry takes, up to 16]' -r
complete -c rpub -n "__fish_rpub_using_subcommand repo; and __fish_seen_subcommand_from ls" -l limit-rate -d 'Move at most so many bytes a second, both ways together, as in 5MB' -r
complete -c rpub -n "__fish_rpub_using_subcommand repo; and __fish_seen_subcommand_from ls" -l resolve -d 'Connect to this address for a registry\'s host and port (repeatable)' -r
complete -c rpub -n "__fish_rpub_using_subcommand repo; and __fish_seen_subcommand_from ls" -l http-header -d 'Send this header to registries; @FILE reads lines from a file (repeatable)' -r
complete -c rpub -n "__fish_rpub_using_subcommand repo; and __fish_seen_subcommand_from ls" -l user-agent-prefix -d 'Put this text before rpub\'s own in the user agent' -r
complete -c rpub -n "__fish_rpub_using_subcommand repo; and __fish_seen_subcommand_from ls" -l authfile -d 'Look for logins in this file only; login and logout change it' -r -F
complete -c rpub -n "__fish_rpub_using_subcommand repo; and __fish_seen_subcommand_from ls" -l src-authfile -d 'Look for logins for what is read from registries in this file only' -r -F
complete -c rpub -n "__fish_rpub_using_subcommand repo; and __fish_seen_subcommand_from ls" -l dest-authfile -d 'Look for logins for what is written to registries in this file only' -r -F
complete -c rpub -n "__fish_rpub_using_subcommand repo; and __fish_seen_subcommand_from ls" -l registry-token-file -d 'Send the bearer token in this file to this registry (repeatable)' -r
complete -c rpub -n "__fish_rpub_using_subcommand repo; and __fish_seen_subcommand_from ls" -s q -l quiet -d 'Show no progress, print only the result'
complete -c rpub -n "__fish_rpub_using_subcommand repo; and __fish_seen_subcommand_from ls" -l offline -d 'Open no connection to anybody: what is here counts, as it was last seen'
complete -c rpub -n "__fish_rpub_using_subcommand repo; and __fish_seen_subcommand_from ls" -s h -l help -d 'Print help'
complete -c rpub -n "__fish_rpub_using_subcommand repo; and __fish_seen_subcommand_from list" -l include -d 'List only names that this regular expression matches from start to end (repeatable)' -r
complete -c rpub -n "__fish_rpub_using_subcommand repo; and __fish_seen_subcommand_from list" -l exclude -d 'Leave out names that this regular expression matches from start to end (repeatable)' -r
complete -c rpub -n "__fish_rpub_using_subcommand repo; and __fish_seen_subcommand_from list" -l last -d 'List only names after this one, in the registry\'s order' -r
complete -c rpub -n "__fish_rpub_using_subcommand repo; and __fish_seen_subcommand_from list" -l limit -d 'List this many names at most' -r
complete -c rpub -n "__fish_rpub_using_subcommand repo; and __fish_seen_subcommand_from list" -l format -d 'Print json, the template given, or with table before it a table: \'table {{.ID}}\'' -r
complete -c rpub -n "__fish_rpub_using_subcommand repo; and __fish_seen_subcommand_from list" -l store -d 'Keep images, layers and the build cache here [default: ~/.local/share/rpub]' -r -F
complete -c rpub -n "__fish_rpub_using_subcommand repo; and __fish_seen_subcommand_from list" -l cache-size -d 'Keep the build cache within this size [default: a fifth of the disk, 10 to 100 GiB]' -r
complete -c rpub -n "__fish_rpub_using_subcommand repo; and __fish_seen_subcommand_from list" -l progress -d 'Show progress as auto, tty, plain, quiet or rawjson' -r -f -a "auto\t'Bars on a terminal, plain lines elsewhere'
tty\t'Bars'
plain\t'Numbered lines'
quiet\t'Nothing but warnings and errors'
rawjson\t'One JSON object a line, for programs'"
complete -c rpub -n "__fish_rpub_using_subcommand repo; and __fish_seen_subcommand_from list" -l insecure-registry -d 'Allow TLS with any certificate, or else plain HTTP, for this registry (repeatable)' -r
complete -c rpub -n "__fish_rpub_using_subcommand repo; and __fish_seen_subcommand_from list" -l plain-http -d 'Reach this registry by plain HTTP (repeatable)' -r
complete -c rpub -n "__fish_rpub_using_subcommand repo; and __fish_seen_subcommand_from list" -l skip-tls-verify -d 'Do not verify the certificate of this registry (repeatable)' -r
complete -c rpub -n "__fish_rpub_using_subcommand repo; and __fish_seen_subcommand_from list" -l ca-file -d 'Also trust the certificate authorities in this PEM file (repeatable)' -r -F
complete -c rpub -n "__fish_rpub_using_subcommand repo; and __fish_seen_subcommand_from list" -l cert-dir -d 'Use the authorities (*.crt) and client certificate (*.cert, *.key) in this directory' -r -F
complete -c rpub -n "__fish_rpub_using_subcommand repo; and __fish_seen_subcommand_from list" -l registries-conf -d 'Read mirrors from this file [default: containers/registries.conf in ~/.config or /etc]' -r -F
complete -c rpub -n "__fish_rpub_using_subcommand repo; and __fish_seen_subcommand_from list" -l retry-times -d 'Try a failed request so many times more [default: 4]' -r
complete -c rpub -n "__fish_rpub_using_subcommand repo; and __fish_seen_subcommand_from list" -l retry-delay -d 'Wait so long before the first retry, twice as long before each further one [default: 500ms]' -r
complete -c rpub -n "__fish_rpub_using_subcommand repo; and __fish_seen_subcommand_from list" -l max-wait -d 'Give up at once when a registry asks for a longer wait than this [default: 1m]' -r
complete -c rpub -n "__fish_rpub_using_subcommand repo; and __fish_seen_subcommand_from list" -l idle-timeout -d 'Break off when a registry does nothing for so long [default: 90s]' -r
complete -c rpub -n "__fish_rpub_using_subcommand repo; and __fish_seen_subcommand_from list" -l concurrency -d 'Move at most so many blobs at once each way [default: what the registry takes, up to 16]' -r
complete -c rpub -n "__fish_rpub_using_subcommand repo; and __fish_seen_subcommand_from list" -l limit-rate -d 'Move at most so many bytes a second, both ways together, as in 5MB' -r
complete -c rpub -n "__fish_rpub_using_subcommand repo; and __fish_seen_subcommand_from list" -l resolve -d 'Connect to this address for a registry\'s host and port (repeatable)' -r
complete -c rpub -n "__fish_rpub_using_subcommand repo; and __fish_seen_subcommand_from list" -l http-header -d 'Send this header to registries; @FILE reads lines from a file (repeatable)' -r
complete -c rpub -n "__fish_rpub_using_subcommand repo; and __fish_seen_subcommand_from list" -l user-agent-prefix -d 'Put this text before rpub\'s own in the user agent' -r
complete -c rpub -n "__fish_rpub_using_subcommand repo; and __fish_seen_subcommand_from list" -l authfile -d 'Look for logins in this file only; login and logout change it' -r -F
complete -c rpub -n "__fish_rpub_using_subcommand repo; and __fish_seen_subcommand_from list" -l src-authfile -d 'Look for logins for what is read from registries in this file only' -r -F
complete -c rpub -n "__fish_rpub_using_subcommand repo; and __fish_seen_subcommand_from list" -l dest-authfile -d 'Look for logins for what is written to registries in this file only' -r -F
complete -c rpub -n "__fish_rpub_using_subcommand repo; and __fish_seen_subcommand_from list" -l registry-token-file -d 'Send the bearer token in this file to this registry (repeatable)' -r
complete -c rpub -n "__fish_rpub_using_subcommand repo; and __fish_seen_subcommand_from list" -s q -l quiet -d 'Show no progress, print only the result'
complete -c rpub -n "__fish_rpub_using_subcommand repo; and __fish_seen_subcommand_from list" -l offline -d 'Open no connection to anybody: what is here counts, as it was last seen'
complete -c rpub -n "__fish_rpub_using_subcommand repo; and __fish_seen_subcommand_from list" -s h -l help -d 'Print help'
complete -c rpub -n "__fish_rpub_using_subcommand repo; and __fish_seen_subcommand_from help" -f -a "ls" -d 'List the repositories of a registry'
complete -c rpub -n "__fish_rpub_using_subcommand repo; and __fish_seen_subcommand_from help" -f -a "help" -d 'Print this message or the help of the given subcommand(s)'
complete -c rpub -n "__fish_rpub_using_subcommand referrers" -l platform -d 'Of an index, take the manifest for this platform' -r
complete -c rpub -n "__fish_rpub_using_subcommand referrers" -l artifact-type -d 'List only this artifact type' -r
complete -c rpub -n "__fish_rpub_using_subcommand referrers" -l format -d 'Print json, the template given, or with table before it a table: \'table {{.ID}}\'' -r
complete -c rpub -n "__fish_rpub_using_subcommand referrers" -l store -d 'Keep images, layers and the build cache here [default: ~/.local/share/rpub]' -r -F
complete -c rpub -n "__fish_rpub_using_subcommand referrers" -l cache-size -d 'Keep the build cache within this size [default: a fifth of the disk, 10 to 100 GiB]' -r
complete -c rpub -n "__fish_rpub_using_subcommand referrers" -l progress -d 'Show progress as auto, tty, plain, quiet or rawjson' -r -f -a "auto\t'Bars on a terminal, plain lines elsewhere'
tty\t'Bars'
plain\t'Numbered lines'
quiet\t'Nothing but warnings and errors'
rawjson\t'One JSON object a line, for programs'"
complete -c rpub -n "__fish_rpub_using_subcommand referrers" -l insecure-registry -d 'Allow TLS with any certificate, or else plain HTTP, for this registry (repeatable)' -r
complete -c rpub -n "__fish_rpub_using_subcommand referrers" -l plain-http -d 'Reach this registry by plain HTTP (repeatable)' -r
complete -c rpub -n "__fish_rpub_using_subcommand referrers" -l skip-tls-verify -d 'Do not verify the certificate of this registry (repeatable)' -r
complete -c rpub -n "__fish_rpub_using_subcommand referrers" -l ca-file -d 'Also trust the certificate authorities in this PEM file (repeatable)' -r -F
complete -c rpub -n "__fish_rpub_using_subcommand referrers" -l cert-dir -d 'Use the authorities (*.crt) and client certificate (*.cert, *.key) in this directory' -r -F
complete -c rpub -n "__fish_rpub_using_subcommand referrers" -l registries-conf -d 'Read mirrors from this file [default: containers/registries.conf in ~/.config or /etc]' -r -F
complete -c rpub -n "__fish_rpub_using_subcommand referrers" -l retry-times -d 'Try a failed request so many times more [default: 4]' -r
complete -c rpub -n "__fish_rpub_using_subcommand referrers" -l retry-delay -d 'Wait so long before the first retry, twice as long before each further one [default: 500ms]' -r
complete -c rpub -n "__fish_rpub_using_subcommand referrers" -l max-wait -d 'Give up at once when a registry asks for a longer wait than this [default: 1m]' -r
complete -c rpub -n "__fish_rpub_using_subcommand referrers" -l idle-timeout -d 'Break off when a registry does nothing for so long [default: 90s]' -r
complete -c rpub -n "__fish_rpub_using_subcommand referrers" -l concurrency -d 'Move at most so many blobs at once each way [default: what the registry takes, up to 16]' -r
complete -c rpub -n "__fish_rpub_using_subcommand referrers" -l limit-rate -d 'Move at most so many bytes a second, both ways together, as in 5MB' -r
complete -c rpub -n "__fish_rpub_using_subcommand referrers" -l resolve -d 'Connect to this address for a registry\'s host and port (repeatable)' -r
complete -c rpub -n "__fish_rpub_using_subcommand referrers" -l http-header -d 'Send this header to registries; @FILE reads lines from a file (repeatable)' -r
complete -c rpub -n "__fish_rpub_using_subcommand referrers" -l user-agent-prefix -d 'Put this text before rpub\'s own in the user agent' -r
complete -c rpub -n "__fish_rpub_using_subcommand referrers" -l authfile -d 'Look for logins in this file only; login and logout change it' -r -F
complete -c rpub -n "__fish_rpub_using_subcommand referrers" -l src-authfile -d 'Look for logins for what is read from registries in this file only' -r -F
complete -c rpub -n "__fish_rpub_using_subcommand referrers" -l dest-authfile -d 'Look for logins for what is written to registries in this file only' -r -F
complete -c rpub -n "__fish_rpub_using_subcommand referrers" -l registry-token-file -d 'Send the bearer token in this file to this registry (repeatable)' -r
complete -c rpub -n "__fish_rpub_using_subcommand referrers" -s q -l quiet -d 'Show no progress, print only the result'
complete -c rpub -n "__fish_rpub_using_subcommand referrers" -l offline -d 'Open no connection to anybody: what is here counts, as it was last seen'
complete -c rpub -n "__fish_rpub_using_subcommand referrers" -s h -l help -d 'Print help'
complete -c rpub -n "__fish_rpub_using_subcommand ping" -l format -d 'Print json, the template given, or with table before it a table: \'table {{.ID}}\'' -r
complete -c rpub -n "__fish_rpub_using_subcommand ping" -l store -d 'Keep images, layers and the build cache here [default: ~/.local/share/rpub]' -r -F
complete -c rpub -n "__fish_rpub_using_subcommand ping" -l cache-size -d 'Keep the build cache within this size [default: a fifth of the disk, 10 to 100 GiB]' -r
complete -c rpub -n "__fish_rpub_using_subcommand ping" -l progress -d 'Show progress as auto, tty, plain, quiet or rawjson' -r -f -a "auto\t'Bars on a terminal, plain lines elsewhere'
tty\t'Bars'
plain\t'Numbered lines'
quiet\t'Nothing but warnings and errors'
rawjson\t'One JSON object a line, for programs'"
complete -c rpub -n "__fish_rpub_using_subcommand ping" -l insecure-registry -d 'Allow TLS with any certificate, or else plain HTTP, for this registry (repeatable)' -r
complete -c rpub -n "__fish_rpub_using_subcommand ping" -l plain-http -d 'Reach this registry by plain HTTP (repeatable)' -r
complete -c rpub -n "__fish_rpub_using_subcommand ping" -l skip-tls-verify -d 'Do not verify the certificate of this registry (repeatable)' -r
complete -c rpub -n "__fish_rpub_using_subcommand ping" -l ca-file -d 'Also trust the certificate authorities in this PEM file (repeatable)' -r -F
complete -c rpub -n "__fish_rpub_using_subcommand ping" -l cert-dir -d 'Use the authorities (*.crt) and client certificate (*.cert, *.key) in this directory' -r -F
complete -c rpub -n "__fish_rpub_using_subcommand ping" -l registries-conf -d 'Read mirrors from this file [default: containers/registries.conf in ~/.config or /etc]' -r -F
complete -c rpub -n "__fish_rpub_using_subcommand ping" -l retry-times -d 'Try a failed request so many times more [default: 4]' -r
complete -c rpub -n "__fish_rpub_using_subcommand ping" -l retry-delay -d 'Wait so long before the first retry, twice as long before each further one [default: 500ms]' -r
complete -c rpub -n "__fish_rpub_using_subcommand ping" -l max-wait -d 'Give up at once when a registry asks for a longer wait than this [default: 1m]' -r
complete -c rpub -n "__fish_rpub_using_subcommand ping" -l idle-timeout -d 'Break off when a registry does nothing for so long [default: 90s]' -r
complete -c rpub -n "__fish_rpub_using_subcommand ping" -l concurrency -d 'Move at most so many blobs at once each way [default: what the registry takes, up to 16]' -r
complete -c rpub -n "__fish_rpub_using_subcommand ping" -l limit-rate -d 'Move at most so many bytes a second, both ways together, as in 5MB' -r
complete -c rpub -n "__fish_rpub_using_subcommand ping" -l resolve -d 'Connect to this address for a registry\'s host and port (repeatable)' -r
complete -c rpub -n "__fish_rpub_using_subcommand ping" -l http-header -d 'Send this header to registries; @FILE reads lines from a file (repeatable)' -r
complete -c rpub -n "__fish_rpub_using_subcommand ping" -l user-agent-prefix -d 'Put this text before rpub\'s own in the user agent' -r
complete -c rpub -n "__fish_rpub_using_subcommand ping" -l authfile -d 'Look for logins in this file only; login and logout change it' -r -F
complete -c rpub -n "__fish_rpub_using_subcommand ping" -l src-authfile -d 'Look for logins for what is read from registries in this file only' -r -F
complete -c rpub -n "__fish_rpub_using_subcommand ping" -l dest-authfile -d 'Look for logins for what is written to registries in this file only' -r -F
complete -c rpub -n "__fish_rpub_using_subcommand ping" -l registry-token-file -d 'Send the bearer token in this file to this registry (repeatable)' -r
complete -c rpub -n "__fish_rpub_using_subcommand ping" -s q -l quiet -d 'Show no progress, print only the result'
complete -c rpub -n "__fish_rpub_using_subcommand ping" -l offline -d 'Open no connection to anybody: what is here counts, as it was last seen'
complete -c rpub -n "__fish_rpub_using_subcommand ping" -s h -l help -d 'Print help'
complete -c rpub -n "__fish_rpub_using_subcommand artifact; and not __fish_seen_subcommand_from push put pull get attach tree discover help" -l store -d 'Keep images, layers and the build cache here [default: ~/.local/share/rpub]' -r -F
complete -c rpub -n "__fish_rpub_using_subcommand artifact; and not __fish_seen_subcommand_from push put pull get attach tree discover help" -l cache-size -d 'Keep the build cache within this size [default: a fifth of the disk, 10 to 100 GiB]' -r
complete -c rpub -n "__fish_rpub_using_subcommand artifact; and not __fish_seen_subcommand_from push put pull get attach tree discover help" -l progress -d 'Show progress as auto, tty, plain, quiet or rawjson' -r -f -a "auto\t'Bars on a terminal, plain lines elsewhere'
tty\t'Bars'
plain\t'Numbered lines'
quiet\t'Nothing but warnings and errors'
rawjson\t'One JSON object a line, for programs'"
complete -c rpub -n "__fish_rpub_using_subcommand artifact; and not __fish_seen_subcommand_from push put pull get attach tree discover help" -l insecure-registry -d 'Allow TLS with any certificate, or else plain HTTP, for this registry (repeatable)' -r
complete -c rpub -n "__fish_rpub_using_subcommand artifact; and not __fish_seen_subcommand_from push put pull get attach tree discover help" -l plain-http -d 'Reach this registry by plain HTTP (repeatable)' -r
complete -c rpub -n "__fish_rpub_using_subcommand artifact; and not __fish_seen_subcommand_from push put pull get attach tree discover help" -l skip-tls-verify -d 'Do not verify the certificate of this registry (repeatable)' -r
complete -c rpub -n "__fish_rpub_using_subcommand artifact; and not __fish_seen_subcommand_from push put pull get attach tree discover help" -l ca-file -d 'Also trust the certificate authorities in this PEM file (repeatable)' -r -F
complete -c rpub -n "__fish_rpub_using_subcommand artifact; and not __fish_seen_subcommand_from push put pull get attach tree discover help" -l cert-dir -d 'Use the authorities (*.crt) and client certificate (*.cert, *.key) in this directory' -r -F
complete -c rpub -n "__fish_rpub_using_subcommand artifact; and not __fish_seen_subcommand_from push put pull get attach tree discover help" -l registries-conf -d 'Read mirrors from this file [default: containers/registries.conf in ~/.config or /etc]' -r -F
complete -c rpub -n "__fish_rpub_using_subcommand artifact; and not __fish_seen_subcommand_from push put pull get attach tree discover help" -l retry-times -d 'Try a failed request so many times more [default: 4]' -r
complete -c rpub -n "__fish_rpub_using_subcommand artifact; and not __fish_seen_subcommand_from push put pull get attach tree discover help" -l retry-delay -d 'Wait so long before the first retry, twice as long before each further one [default: 500ms]' -r
complete -c rpub -n "__fish_rpub_using_subcommand artifact; and not __fish_seen_subcommand_from push put pull get attach tree discover help" -l max-wait -d 'Give up at once when a registry asks for a longer wait than this [default: 1m]' -r
complete -c rpub -n "__fish_rpub_using_subcommand artifact; and not __fish_seen_subcommand_from push put pull get attach tree discover help" -l idle-timeout -d 'Break off when a registry does nothing for so long [default: 90s]' -r
complete -c rpub -n "__fish_rpub_using_subcommand artifact; and not __fish_seen_subcommand_from push put pull get attach tree discover help" -l concurrency -d 'Move at most so many blobs at once each way [default: what the registry takes, up to 16]' -r
complete -c rpub -n "__fish_rpub_using_subcommand artifact; and not __fish_seen_subcommand_from push put pull get attach tree discover help" -l limit-rate -d 'Move at most so many bytes a second, both ways together, as in 5MB' -r
complete -c rpub -n "__fish_rpub_using_subcommand artifact; and not __fish_seen_subcommand_from push put pull get attach tree discover help" -l resolve -d 'Connect to this address for a registry\'s host and port (repeatable)' -r
complete -c rpub -n "__fish_rpub_using_subcommand artifact; and not __fish_seen_subcommand_from push put pull get attach tree discover help" -l http-header -d 'Send this header to registries; @FILE reads lines from a file (repeatable)' -r
complete -c rpub -n "__fish_rpub_using_subcommand artifact; and not __fish_seen_subcommand_from push put pull get attach tree discover help" -l user-agent-prefix -d 'Put this text before rpub\'s own in the user agent' -r
complete -c rpub -n "__fish_rpub_using_subcommand artifact; and not __fish_seen_subcommand_from push put pull get attach tree discover help" -l authfile -d 'Look for logins in this file only; login and logout change it' -r -F
complete -c rpub -n "__fish_rpub_using_subcommand artifact; and not __fish_seen_subcommand_from push put pull get attach tree discover help" -l src-authfile -d 'Look for logins for what is read from registries in this file only' -r -F
complete -c rpub -n "__fish_rpub_using_subcommand artifact; and not __fish_seen_subcommand_from push put pull get attach tree discover help" -l dest-authfile -d 'Look for logins for what is written to registries in this file only' -r -F
complete -c rpub -n "__fish_rpub_using_subcommand artifact; and not __fish_seen_subcommand_from push put pull get attach tree discover help" -l registry-token-file -d 'Send the bearer token in this file to this registry (repeatable)' -r
complete -c rpub -n "__fish_rpub_using_subcommand artifact; and not __fish_seen_subcommand_from push put pull get attach tree discover help" -s q -l quiet -d 'Show no progress, print only the result'
complete -c rpub -n "__fish_rpub_using_subcommand artifact; and not __fish_seen_subcommand_from push put pull get attach tree discover help" -l offline -d 'Open no connection to anybody: what is here counts, as it was last seen'
complete -c rpub -n "__fish_rpub_using_subcommand artifact; and not __fish_seen_subcommand_from push put pull get attach tree discover help" -s h -l help -d 'Print help'
complete -c rpub -n "__fish_rpub_using_subcommand artifact; and not __fish_seen_subcommand_from push put pull get attach tree discover help" -f -a "push" -d 'Push files and directories as an artifact'
complete -c rpub -n "__fish_rpub_using_subcommand artifact; and not __fish_seen_subcommand_from push put pull get attach tree discover help" -f -a "put" -d 'Push files and directories as an artifact'
complete -c rpub -n "__fish_rpub_using_subcommand artifact; and not __fish_seen_subcommand_from push put pull get attach tree discover help" -f -a "pull" -d 'Pull the files of an artifact into a directory'
complete -c rpub -n "__fish_rpub_using_subcommand artifact; and not __fish_seen_subcommand_from push put pull get attach tree discover help" -f -a "get" -d 'Pull the files of an artifact into a directory'
complete -c rpub -n "__fish_rpub_using_subcommand artifact; and not __fish_seen_subcommand_from push put pull get attach tree discover help" -f -a "attach" -d 'Push files and directories as an artifact that refers to an image'
complete -c rpub -n "__fish_rpub_using_subcommand artifact; and not __fish_seen_subcommand_from push put pull get attach tree discover help" -f -a "tree" -d 'Show what refers to an image, what refers to that, and so on'
complete -c rpub -n "__fish_rpub_using_subcommand artifact; and not __fish_seen_subcommand_from push put pull get attach tree discover help" -f -a "discover" -d 'Show what refers to an image, what refers to that, and so on'
complete -c rpub -n "__fish_rpub_using_subcommand artifact; and not __fish_seen_subcommand_from push put pull get attach tree discover help" -f -a "help" -d 'Print this message or the help of the given subcommand(s)'
complete -c rpub -n "__fish_rpub_using_subcommand artifact; and __fish_seen_subcommand_from push" -l artifact-type -d 'Kind of artifact' -r
complete -c rpub -n "__fish_rpub_using_subcommand artifact; and __fish_seen_subcommand_from push" -s a -l annotation -d 'Annotate the manifest (repeatable)' -r
complete -c rpub -n "__fish_rpub_using_subcommand artifact; and __fish_seen_subcommand_from push" -l annotation-file -d 'Annotate what this JSON file names: $manifest, $config and files' -r -F
complete -c rpub -n "__fish_rpub_using_subcommand artifact; and __fish_seen_subcommand_from push" -s t -l tag -d 'Give it this tag too (repeatable)' -r
complete -c rpub -n "__fish_rpub_using_subcommand artifact; and __fish_seen_subcommand_from push" -l config -d 'Use this file as config [default: the empty one]' -r
complete -c rpub -n "__fish_rpub_using_subcommand artifact; and __fish_seen_subcommand_from push" -l format -d 'Print json, the template given, or with table before it a table: \'table {{.ID}}\'' -r
complete -c rpub -n "__fish_rpub_using_subcommand artifact; and __fish_seen_subcommand_from push" -l store -d 'Keep images, layers and the build cache here [default: ~/.local/share/rpub]' -r -F
complete -c rpub -n "__fish_rpub_using_subcommand artifact; and __fish_seen_subcommand_from push" -l cache-size -d 'Keep the build cache within this size [default: a fifth of the disk, 10 to 100 GiB]' -r
complete -c rpub -n "__fish_rpub_using_subcommand artifact; and __fish_seen_subcommand_from push" -l progress -d 'Show progress as auto, tty, plain, quiet or rawjson' -r -f -a "auto\t'Bars on a terminal, plain lines elsewhere'
tty\t'Bars'
plain\t'Numbered lines'
quiet\t'Nothing but warnings and errors'
rawjson\t'One JSON object a line, for programs'"
complete -c rpub -n "__fish_rpub_using_subcommand artifact; and __fish_seen_subcommand_from push" -l insecure-registry -d 'Allow TLS with any certificate, or else plain HTTP, for this registry (repeatable)' -r
complete -c rpub -n "__fish_rpub_using_subcommand artifact; and __fish_seen_subcommand_from push" -l plain-http -d 'Reach this registry by plain HTTP (repeatable)' -r
complete -c rpub -n "__fish_rpub_using_subcommand artifact; and __fish_seen_subcommand_from push" -l skip-tls-verify -d 'Do not verify the certificate of this registry (repeatable)' -r
complete -c rpub -n "__fish_rpub_using_subcommand artifact; and __fish_seen_subcommand_from push" -l ca-file -d 'Also trust the certificate authorities in this PEM file (repeatable)' -r -F
complete -c rpub -n "__fish_rpub_using_subcommand artifact; and __fish_seen_subcommand_from push" -l cert-dir -d 'Use the authorities (*.crt) and client certificate (*.cert, *.key) in this directory' -r -F
complete -c rpub -n "__fish_rpub_using_subcommand artifact; and __fish_seen_subcommand_from push" -l registries-conf -d 'Read mirrors from this file [default: containers/registries.conf in ~/.config or /etc]' -r -F
complete -c rpub -n "__fish_rpub_using_subcommand artifact; and __fish_seen_subcommand_from push" -l retry-times -d 'Try a failed request so many times more [default: 4]' -r
complete -c rpub -n "__fish_rpub_using_subcommand artifact; and __fish_seen_subcommand_from push" -l retry-delay -d 'Wait so long before the first retry, twice as long before each further one [default: 500ms]' -r
complete -c rpub -n "__fish_rpub_using_subcommand artifact; and __fish_seen_subcommand_from push" -l max-wait -d 'Give up at once when a registry asks for a longer wait than this [default: 1m]' -r
complete -c rpub -n "__fish_rpub_using_subcommand artifact; and __fish_seen_subcommand_from push" -l idle-timeout -d 'Break off when a registry does nothing for so long [default: 90s]' -r
complete -c rpub -n "__fish_rpub_using_subcommand artifact; and __fish_seen_subcommand_from push" -l concurrency -d 'Move at most so many blobs at once each way [default: what the registry takes, up to 16]' -r
complete -c rpub -n "__fish_rpub_using_subcommand artifact; and __fish_seen_subcommand_from push" -l limit-rate -d 'Move at most so many bytes a second, both ways together, as in 5MB' -r
complete -c rpub -n "__fish_rpub_using_subcommand artifact; and __fish_seen_subcommand_from push" -l resolve -d 'Connect to this address for a registry\'s host and port (repeatable)' -r
complete -c rpub -n "__fish_rpub_using_subcommand artifact; and __fish_seen_subcommand_from push" -l http-header -d 'Send this header to registries; @FILE reads lines from a file (repeatable)' -r
complete -c rpub -n "__fish_rpub_using_subcommand artifact; and __fish_seen_subcommand_from push" -l user-agent-prefix -d 'Put this text before rpub\'s own in the user agent' -r
complete -c rpub -n "__fish_rpub_using_subcommand artifact; and __fish_seen_subcommand_from push" -l authfile -d 'Look for logins in this file only; login and logout change it' -r -F
complete -c rpub -n "__fish_rpub_using_subcommand artifact; and __fish_seen_subcommand_from push" -l src-authfile -d 'Look for logins for what is read from registries in this file only' -r -F
complete -c rpub -n "__fish_rpub_using_subcommand artifact; and __fish_seen_subcommand_from push" -l dest-authfile -d 'Look for logins for what is written to registries in this file only' -r -F
complete -c rpub -n "__fish_rpub_using_subcommand artifact; and __fish_seen_subcommand_from push" -l registry-token-file -d 'Send the bearer token in this file to this registry (repeatable)' -r
complete -c rpub -n "__fish_rpub_using_subcommand artifact; and __fish_seen_subcommand_from push" -s q -l quiet -d 'Show no progress, print only the result'
complete -c rpub -n "__fish_rpub_using_subcommand artifact; and __fish_seen_subcommand_from push" -l offline -d 'Open no connection to anybody: what is here counts, as it was last seen'
complete -c rpub -n "__fish_rpub_using_subcommand artifact; and __fish_seen_subcommand_from push" -s h -l help -d 'Print help'
complete -c rpub -n "__fish_rpub_using_subcommand artifact; and __fish_seen_subcommand_from put" -l artifact-type -d 'Kind of artifact' -r
complete -c rpub -n "__fish_rpub_using_subcommand artifact; and __fish_seen_subcommand_from put" -s a -l annotation -d 'Annotate the manifest (repeatable)' -r
complete -c rpub -n "__fish_rpub_using_subcommand artifact; and __fish_seen_subcommand_from put" -l annotation-file -d 'Annotate what this JSON file names: $manifest, $config and files' -r -F
complete -c rpub -n "__fish_rpub_using_subcommand artifact; and __fish_seen_subcommand_from put" -s t -l tag -d 'Give it this tag too (repeatable)' -r
complete -c rpub -n "__fish_rpub_using_subcommand artifact; and __fish_seen_subcommand_from put" -l config -d 'Use this file as config [default: the empty one]' -r
complete -c rpub -n "__fish_rpub_using_subcommand artifact; and __fish_seen_subcommand_from put" -l format -d 'Print json, the template given, or with table before it a table: \'table {{.ID}}\'' -r
complete -c rpub -n "__fish_rpub_using_subcommand artifact; and __fish_seen_subcommand_from put" -l store -d 'Keep images, layers and the build cache here [default: ~/.local/share/rpub]' -r -F
complete -c rpub -n "__fish_rpub_using_subcommand artifact; and __fish_seen_subcommand_from put" -l cache-size -d 'Keep the build cache within this size [default: a fifth of the disk, 10 to 100 GiB]' -r
complete -c rpub -n "__fish_rpub_using_subcommand artifact; and __fish_seen_subcommand_from put" -l progress -d 'Show progress as auto, tty, plain, quiet or rawjson' -r -f -a "auto\t'Bars on a terminal, plain lines elsewhere'
tty\t'Bars'
plain\t'Numbered lines'
quiet\t'Nothing but warnings and errors'
rawjson\t'One JSON object a line, for programs'"
complete -c rpub -n "__fish_rpub_using_subcommand artifact; and __fish_seen_subcommand_from put" -l insecure-registry -d 'Allow TLS with any certificate, or else plain HTTP, for this registry (repeatable)' -r
complete -c rpub -n "__fish_rpub_using_subcommand artifact; and __fish_seen_subcommand_from put" -l plain-http -d 'Reach this registry by plain HTTP (repeatable)' -r
complete -c rpub -n "__fish_rpub_using_subcommand artifact; and __fish_seen_subcommand_from put" -l skip-tls-verify -d 'Do not verify the certificate of this registry (repeatable)' -r
complete -c rpub -n "__fish_rpub_using_subcommand artifact; and __fish_seen_subcommand_from put" -l ca-file -d 'Also trust the certificate authorities in this PEM file (repeatable)' -r -F
complete -c rpub -n "__fish_rpub_using_subcommand artifact; and __fish_seen_subcommand_from put" -l cert-dir -d 'Use the authorities (*.crt) and client certificate (*.cert, *.key) in this directory' -r -F
complete -c rpub -n "__fish_rpub_using_subcommand artifact; and __fish_seen_subcommand_from put" -l registries-conf -d 'Read mirrors from this file [default: containers/registries.conf in ~/.config or /etc]' -r -F
complete -c rpub -n "__fish_rpub_using_subcommand artifact; and __fish_seen_subcommand_from put" -l retry-times -d 'Try a failed request so many times more [default: 4]' -r
complete -c rpub -n "__fish_rpub_using_subcommand artifact; and __fish_seen_subcommand_from put" -l retry-delay -d 'Wait so long before the first retry, twice as long before each further one [default: 500ms]' -r
complete -c rpub -n "__fish_rpub_using_subcommand artifact; and __fish_seen_subcommand_from put" -l max-wait -d 'Give up at once when a registry asks for a longer wait than this [default: 1m]' -r
complete -c rpub -n "__fish_rpub_using_subcommand artifact; and __fish_seen_subcommand_from put" -l idle-timeout -d 'Break off when a registry does nothing for so long [default: 90s]' -r
complete -c rpub -n "__fish_rpub_using_subcommand artifact; and __fish_seen_subcommand_from put" -l concurrency -d 'Move at most so many blobs at once each way [default: what the registry takes, up to 16]' -r
complete -c rpub -n "__fish_rpub_using_subcommand artifact; and __fish_seen_subcommand_from put" -l limit-rate -d 'Move at most so many bytes a second, both ways together, as in 5MB' -r
complete -c rpub -n "__fish_rpub_using_subcommand artifact; and __fish_seen_subcommand_from put" -l resolve -d 'Connect to this address for a registry\'s host and port (repeatable)' -r
complete -c rpub -n "__fish_rpub_using_subcommand artifact; and __fish_seen_subcommand_from put" -l http-header -d 'Send this header to registries; @FILE reads lines from a file (repeatable)' -r
complete -c rpub -n "__fish_rpub_using_subcommand artifact; and __fish_seen_subcommand_from put" -l user-agent-prefix -d 'Put this text before rpub\'s own in the user agent' -r
complete -c rpub -n "__fish_rpub_using_subcommand artifact; and __fish_seen_subcommand_from put" -l authfile -d 'Look for logins in this file only; login and logout change it' -r -F
complete -c rpub -n "__fish_rpub_using_subcommand artifact; and __fish_seen_subcommand_from put" -l src-authfile -d 'Look for logins for what is read from registries in this file only' -r -F
complete -c rpub -n "__fish_rpub_using_subcommand artifact; and __fish_seen_subcommand_from put" -l dest-authfile -d 'Look for logins for what is written to registries in this file only' -r -F
complete -c rpub -n "__fish_rpub_using_subcommand artifact; and __fish_seen_subcommand_from put" -l registry-token-file -d 'Send the bearer token in this file to this registry (repeatable)' -r
complete -c rpub -n "__fish_rpub_using_subcommand artifact; and __fish_seen_subcommand_from put" -s q -l quiet -d 'Show no progress, print only the result'
complete -c rpub -n "__fish_rpub_using_subcommand artifact; and __fish_seen_subcommand_from put" -l offline -d 'Open no connection to anybody: what is here counts, as it was last seen'
complete -c rpub -n "__fish_rpub_using_subcommand artifact; and __fish_seen_subcommand_from put" -s h -l help -d 'Print help'
complete -c rpub -n "__fish_rpub_using_subcommand artifact; and __fish_seen_subcommand_from pull" -s o -l output -d 'Write files below this directory' -r -F
complete -c rpub -n "__fish_rpub_using_subcommand artifact; and __fish_seen_subcommand_from pull" -l platform -d 'Of an index, take the manifest for this platform' -r
complete -c rpub -n "__fish_rpub_using_subcommand artifact; and __fish_seen_subcommand_from pull" -l format -d 'Print json, the template given, or with table before it a table: \'table {{.ID}}\'' -r
complete -c rpub -n "__fish_rpub_using_subcommand artifact; and __fish_seen_subcommand_from pull" -l store -d 'Keep images, layers and the build cache here [default: ~/.local/share/rpub]' -r -F
complete -c rpub -n "__fish_rpub_using_subcommand artifact; and __fish_seen_subcommand_from pull" -l cache-size -d 'Keep the build cache within this size [default: a fifth of the disk, 10 to 100 GiB]' -r
complete -c rpub -n "__fish_rpub_using_subcommand artifact; and __fish_seen_subcommand_from pull" -l progress -d 'Show progress as auto, tty, plain, quiet or rawjson' -r -f -a "auto\t'Bars on a terminal, plain lines elsewhere'
tty\t'Bars'
plain\t'Numbered lines'
quiet\t'Nothing but warnings and errors'
rawjson\t'One JSON object a line, for programs'"
complete -c rpub -n "__fish_rpub_using_subcommand artifact; and __fish_seen_subcommand_from pull" -l insecure-registry -d 'Allow TLS with any certificate, or else plain HTTP, for this registry (repeatable)' -r
complete -c rpub -n "__fish_rpub_using_subcommand artifact; and __fish_seen_subcommand_from pull" -l plain-http -d 'Reach this registry by plain HTTP (repeatable)' -r
complete -c rpub -n "__fish_rpub_using_subcommand artifact; and __fish_seen_subcommand_from pull" -l skip-tls-verify -d 'Do not verify the certificate of this registry (repeatable)' -r
complete -c rpub -n "__fish_rpub_using_subcommand artifact; and __fish_seen_subcommand_from pull" -l ca-file -d 'Also trust the certificate authorities in this PEM file (repeatable)' -r -F
complete -c rpub -n "__fish_rpub_using_subcommand artifact; and __fish_seen_subcommand_from pull" -l cert-dir -d 'Use the authorities (*.crt) and client certificate (*.cert, *.key) in this directory' -r -F
complete -c rpub -n "__fish_rpub_using_subcommand artifact; and __fish_seen_subcommand_from pull" -l registries-conf -d 'Read mirrors from this file [default: containers/registries.conf in ~/.config or /etc]' -r -F
complete -c rpub -n "__fish_rpub_using_subcommand artifact; and __fish_seen_subcommand_from pull" -l retry-times -d 'Try a failed request so many times more [default: 4]' -r
complete -c rpub -n "__fish_rpub_using_subcommand artifact; and __fish_seen_subcommand_from pull" -l retry-delay -d 'Wait so long before the first retry, twice as long before each further one [default: 500ms]' -r
complete -c rpub -n "__fish_rpub_using_subcommand artifact; and __fish_seen_subcommand_from pull" -l max-wait -d 'Give up at once when a registry asks for a longer wait than this [default: 1m]' -r
complete -c rpub -n "__fish_rpub_using_subcommand artifact; and __fish_seen_subcommand_from pull" -l idle-timeout -d 'Break off when a registry does nothing for so long [default: 90s]' -r
complete -c rpub -n "__fish_rpub_using_subcommand artifact; and __fish_seen_subcommand_from pull" -l concurrency -d 'Move at most so many blobs at once each way [default: what the registry takes, up to 16]' -r
complete -c rpub -n "__fish_rpub_using_subcommand artifact; and __fish_seen_subcommand_from pull" -l limit-rate -d 'Move at most so many bytes a second, both ways together, as in 5MB' -r
complete -c rpub -n "__fish_rpub_using_subcommand artifact; and __fish_seen_subcommand_from pull" -l resolve -d 'Connect to this address for a registry\'s host and port (repeatable)' -r
complete -c rpub -n "__fish_rpub_using_subcommand artifact; and __fish_seen_subcommand_from pull" -l http-header -d 'Send this header to registries; @FILE reads lines from a file (repeatable)' -r
complete -c rpub -n "__fish_rpub_using_subcommand artifact; and __fish_seen_subcommand_from pull" -l user-agent-prefix -d 'Put this text before rpub\'s own in the user agent' -r
complete -c rpub -n "__fish_rpub_using_subcommand artifact; and __fish_seen_subcommand_from pull" -l authfile -d 'Look for logins in this file only; login and logout change it' -r -F
complete -c rpub -n "__fish_rpub_using_subcommand artifact; and __fish_seen_subcommand_from pull" -l src-authfile -d 'Look for logins for what is read from registries in this file only' -r -F
complete -c rpub -n "__fish_rpub_using_subcommand artifact; and __fish_seen_subcommand_from pull" -l dest-authfile -d 'Look for logins for what is written to registries in this file only' -r -F
complete -c rpub -n "__fish_rpub_using_subcommand artifact; and __fish_seen_subcommand_from pull" -l registry-token-file -d 'Send the bearer token in this file to this registry (repeatable)' -r
complete -c rpub -n "__fish_rpub_using_subcommand artifact; and __fish_seen_subcommand_from pull" -l overwrite -d 'Replace files that are there'
complete -c rpub -n "__fish_rpub_using_subcommand artifact; and __fish_seen_subcommand_from pull" -s q -l quiet -d 'Show no progress, print only the result'
complete -c rpub -n "__fish_rpub_using_subcommand artifact; and __fish_seen_subcommand_from pull" -l offline -d 'Open no connection to anybody: what is here counts, as it was last seen'
complete -c rpub -n "__fish_rpub_using_subcommand artifact; and __fish_seen_subcommand_from pull" -s h -l help -d 'Print help'
complete -c rpub -n "__fish_rpub_using_subcommand artifact; and __fish_seen_subcommand_from get" -s o -l output -d 'Write files below this directory' -r -F
complete -c rpub -n "__fish_rpub_using_subcommand artifact; and __fish_seen_subcommand_from get" -l platform -d 'Of an index, take the manifest for this platform' -r
complete -c rpub -n "__fish_rpub_using_subcommand artifact; and __fish_seen_subcommand_from get" -l format -d 'Print json, the template given, or with table before it a table: \'table {{.ID}}\'' -r
complete -c rpub -n "__fish_rpub_using_subcommand artifact; and __fish_seen_subcommand_from get" -l store -d 'Keep images, layers and the build cache here [default: ~/.local/share/rpub]' -r -F
complete -c rpub -n "__fish_rpub_using_subcommand artifact; and __fish_seen_subcommand_from get" -l cache-size -d 'Keep the build cache within this size [default: a fifth of the disk, 10 to 100 GiB]' -r
complete -c rpub -n "__fish_rpub_using_subcommand artifact; and __fish_seen_subcommand_from get" -l progress -d 'Show progress as auto, tty, plain, quiet or rawjson' -r -f -a "auto\t'Bars on a terminal, plain lines elsewhere'
tty\t'Bars'
plain\t'Numbered lines'
quiet\t'Nothing but warnings and errors'
rawjson\t'One JSON object a line, for programs'"
complete -c rpub -n "__fish_rpub_using_subcommand artifact; and __fish_seen_subcommand_from get" -l insecure-registry -d 'Allow TLS with any certificate, or else plain HTTP, for this registry (repeatable)' -r
complete -c rpub -n "__fish_rpub_using_subcommand artifact; and __fish_seen_subcommand_from get" -l plain-http -d 'Reach this registry by plain HTTP (repeatable)' -r
complete -c rpub -n "__fish_rpub_using_subcommand artifact; and __fish_seen_subcommand_from get" -l skip-tls-verify -d 'Do not verify the certificate of this registry (repeatable)' -r
complete -c rpub -n "__fish_rpub_using_subcommand artifact; and __fish_seen_subcommand_from get" -l ca-file -d 'Also trust the certificate authorities in this PEM file (repeatable)' -r -F
complete -c rpub -n "__fish_rpub_using_subcommand artifact; and __fish_seen_subcommand_from get" -l cert-dir -d 'Use the authorities (*.crt) and client certificate (*.cert, *.key) in this directory' -r -F
complete -c rpub -n "__fish_rpub_using_subcommand artifact; and __fish_seen_subcommand_from get" -l registries-conf -d 'Read mirrors from this file [default: containers/registries.conf in ~/.config or /etc]' -r -F
complete -c rpub -n "__fish_rpub_using_subcommand artifact; and __fish_seen_subcommand_from get" -l retry-times -d 'Try a failed request so many times more [default: 4]' -r
complete -c rpub -n "__fish_rpub_using_subcommand artifact; and __fish_seen_subcommand_from get" -l retry-delay -d 'Wait so long before the first retry, twice as long before each further one [default: 500ms]' -r
complete -c rpub -n "__fish_rpub_using_subcommand artifact; and __fish_seen_subcommand_from get" -l max-wait -d 'Give up at once when a registry asks for a longer wait than this [default: 1m]' -r
complete -c rpub -n "__fish_rpub_using_subcommand artifact; and __fish_seen_subcommand_from get" -l idle-timeout -d 'Break off when a registry does nothing for so long [default: 90s]' -r
complete -c rpub -n "__fish_rpub_using_subcommand artifact; and __fish_seen_subcommand_from get" -l concurrency -d 'Move at most so many blobs at once each way [default: what the registry takes, up to 16]' -r
complete -c rpub -n "__fish_rpub_using_subcommand artifact; and __fish_seen_subcommand_from get" -l limit-rate -d 'Move at most so many bytes a second, both ways together, as in 5MB' -r
complete -c rpub -n "__fish_rpub_using_subcommand artifact; and __fish_seen_subcommand_from get" -l resolve -d 'Connect to this address for a registry\'s host and port (repeatable)' -r
complete -c rpub -n "__fish_rpub_using_subcommand artifact; and __fish_seen_subcommand_from get" -l http-header -d 'Send this header to registries; @FILE reads lines from a file (repeatable)' -r
complete -c rpub -n "__fish_rpub_using_subcommand artifact; and __fish_seen_subcommand_from get" -l user-agent-prefix -d 'Put this text before rpub\'s own in the user agent' -r
complete -c rpub -n "__fish_rpub_using_subcommand artifact; and __fish_seen_subcommand_from get" -l authfile -d 'Look for logins in this file only; login and logout change it' -r -F
complete -c rpub -n "__fish_rpub_using_subcommand artifact; and __fish_seen_subcommand_from get" -l src-authfile -d 'Look for logins for what is read from registries in this file only' -r -F
complete -c rpub -n "__fish_rpub_using_subcommand artifact; and __fish_seen_subcommand_from get" -l dest-authfile -d 'Look for logins for what is written to registries in this file only' -r -F
complete -c rpub -n "__fish_rpub_using_subcommand artifact; and __fish_seen_subcommand_from get" -l registry-token-file -d 'Send the bearer token in this file to this registry (repeatable)' -r
complete -c rpub -n "__fish_rpub_using_subcommand artifact; and __fish_seen_subcommand_from get" -l overwrite -d 'Replace files that are there'
complete -c rpub -n "__fish_rpub_using_subcommand artifact; and __fish_seen_subcommand_from get" -s q -l quiet -d 'Show no progress, print only the result'
complete -c rpub -n "__fish_rpub_using_subcommand artifact; and __fish_seen_subcommand_from get" -l offline -d 'Open no connection to anybody: what is here counts, as it was last seen'
complete -c rpub -n "__fish_rpub_using_subcommand artifact; and __fish_seen_subcommand_from get" -s h -l help -d 'Print help'
complete -c rpub -n "__fish_rpub_using_subcommand artifact; and __fish_seen_subcommand_from attach" -l artifact-type -d 'Kind of artifact' -r
complete -c rpub -n "__fish_rpub_using_subcommand artifact; and __fish_seen_subcommand_from attach" -s a -l annotation -d 'Annotate the manifest (repeatable)' -r
complete -c rpub -n "__fish_rpub_using_subcommand artifact; and __fish_seen_subcommand_from attach" -l annotation-file -d 'Annotate what this JSON file names: $manifest, $config and files' -r -F
complete -c rpub -n "__fish_rpub_using_subcommand artifact; and __fish_seen_subcommand_from attach" -l platform -d 'Of an index, take the manifest for this platform' -r
complete -c rpub -n "__fish_rpub_using_subcommand artifact; and __fish_seen_subcommand_from attach" -l format -d 'Print json, the template given, or with table before it a table: \'table {{.ID}}\'' -r
complete -c rpub -n "__fish_rpub_using_subcommand artifact; and __fish_seen_subcommand_from attach" -l store -d 'Keep images, layers and the build cache here [default: ~/.local/share/rpub]' -r -F
complete -c rpub -n "__fish_rpub_using_subcommand artifact; and __fish_seen_subcommand_from attach" -l cache-size -d 'Keep the build cache within this size [default: a fifth of the disk, 10 to 100 GiB]' -r
complete -c rpub -n "__fish_rpub_using_subcommand artifact; and __fish_seen_subcommand_from attach" -l progress -d 'Show progress as auto, tty, plain, quiet or rawjson' -r -f -a "auto\t'Bars on a terminal, plain lines elsewhere'
tty\t'Bars'
plain\t'Numbered lines'
quiet\t'Nothing but warnings and errors'
rawjson\t'One JSON object a line, for programs'"
complete -c rpub -n "__fish_rpub_using_subcommand artifact; and __fish_seen_subcommand_from attach" -l insecure-registry -d 'Allow TLS with any certificate, or else plain HTTP, for this registry (repeatable)' -r
complete -c rpub -n "__fish_rpub_using_subcommand artifact; and __fish_seen_subcommand_from attach" -l plain-http -d 'Reach this registry by plain HTTP (repeatable)' -r
complete -c rpub -n "__fish_rpub_using_subcommand artifact; and __fish_seen_subcommand_from attach" -l skip-tls-verify -d 'Do not verify the certificate of this registry (repeatable)' -r
complete -c rpub -n "__fish_rpub_using_subcommand artifact; and __fish_seen_subcommand_from attach" -l ca-file -d 'Also trust the certificate authorities in this PEM file (repeatable)' -r -F
complete -c rpub -n "__fish_rpub_using_subcommand artifact; and __fish_seen_subcommand_from attach" -l cert-dir -d 'Use the authorities (*.crt) and client certificate (*.cert, *.key) in this directory' -r -F
complete -c rpub -n "__fish_rpub_using_subcommand artifact; and __fish_seen_subcommand_from attach" -l registries-conf -d 'Read mirrors from this file [default: containers/registries.conf in ~/.config or /etc]' -r -F
complete -c rpub -n "__fish_rpub_using_subcommand artifact; and __fish_seen_subcommand_from attach" -l retry-times -d 'Try a failed request so many times more [default: 4]' -r
complete -c rpub -n "__fish_rpub_using_subcommand artifact; and __fish_seen_subcommand_from attach" -l retry-delay -d 'Wait so long before the first retry, twice as long before each further one [default: 500ms]' -r
complete -c rpub -n "__fish_rpub_using_subcommand artifact; and __fish_seen_subcommand_from attach" -l max-wait -d 'Give up at once when a registry asks for a longer wait than this [default: 1m]' -r
complete -c rpub -n "__fish_rpub_using_subcommand artifact; and __fish_seen_subcommand_from attach" -l idle-timeout -d 'Break off when a registry does nothing for so long [default: 90s]' -r
complete -c rpub -n "__fish_rpub_using_subcommand artifact; and __fish_seen_subcommand_from attach" -l concurrency -d 'Move at most so many blobs at once each way [default: what the registry takes, up to 16]' -r
complete -c rpub -n "__fish_rpub_using_subcommand artifact; and __fish_seen_subcommand_from attach" -l limit-rate -d 'Move at most so many bytes a second, both ways together, as in 5MB' -r
complete -c rpub -n "__fish_rpub_using_subcommand artifact; and __fish_seen_subcommand_from attach" -l resolve -d 'Connect to this address for a registry\'s host and port (repeatable)' -r
complete -c rpub -n "__fish_rpub_using_subcommand artifact; and __fish_seen_subcommand_from attach" -l http-header -d 'Send this header to registries; @FILE reads lines from a file (repeatable)' -r
complete -c rpub -n "__fish_rpub_using_subcommand artifact; and __fish_seen_subcommand_from attach" -l user-agent-prefix -d 'Put this text before rpub\'s own in the user agent' -r
complete -c rpub -n "__fish_rpub_using_subcommand artifact; and __fish_seen_subcommand_from attach" -l authfile -d 'Look for logins in this file only; login and logout change it' -r -F
complete -c rpub -n "__fish_rpub_using_subcommand artifact; and __fish_seen_subcommand_from attach" -l src-authfile -d 'Look for logins for what is read from registries in this file only' -r -F
complete -c rpub -n "__fish_rpub_using_subcommand artifact; and __fish_seen_subcommand_from attach" -l dest-authfile -d 'Look for logins for what is written to registries in this file only' -r -F
complete -c rpub -n "__fish_rpub_using_subcommand artifact; and __fish_seen_subcommand_from attach" -l registry-token-file -d 'Send the bearer token in this file to this registry (repeatable)' -r
complete -c rpub -n "__fish_rpub_using_subcommand artifact; and __fish_seen_subcommand_from attach" -s q -l quiet -d 'Show no progress, print only the result'
complete -c rpub -n "__fish_rpub_using_subcommand artifact; and __fish_seen_subcommand_from attach" -l offline -d 'Open no connection to anybody: what is here counts, as it was last seen'
complete -c rpub -n "__fish_rpub_using_subcommand artifact; and __fish_seen_subcommand_from attach" -s h -l help -d 'Print help'
complete -c rpub -n "__fish_rpub_using_subcommand artifact; and __fish_seen_subcommand_from tree" -l artifact-type -d 'Show only what refers to the image with this artifact type' -r
complete -c rpub -n "__fish_rpub_using_subcommand artifact; and __fish_seen_subcommand_from tree" -l platform -d 'Of an index, take the manifest for this platform' -r
complete -c rpub -n "__fish_rpub_using_subcommand artifact; and __fish_seen_subcommand_from tree" -l format -d 'Print json, the template given, or with table before it a table: \'table {{.ID}}\'' -r
complete -c rpub -n "__fish_rpub_using_subcommand artifact; and __fish_seen_subcommand_from tree" -l store -d 'Keep images, layers and the build cache here [default: ~/.local/share/rpub]' -r -F
complete -c rpub -n "__fish_rpub_using_subcommand artifact; and __fish_seen_subcommand_from tree" -l cache-size -d 'Keep the build cache within this size [default: a fifth of the disk, 10 to 100 GiB]' -r
complete -c rpub -n "__fish_rpub_using_subcommand artifact; and __fish_seen_subcommand_from tree" -l progress -d 'Show progress as auto, tty, plain, quiet or rawjson' -r -f -a "auto\t'Bars on a terminal, plain lines elsewhere'
tty\t'Bars'
plain\t'Numbered lines'
quiet\t'Nothing but warnings and errors'
rawjson\t'One JSON object a line, for programs'"
complete -c rpub -n "__fish_rpub_using_subcommand artifact; and __fish_seen_subcommand_from tree" -l insecure-registry -d 'Allow TLS with any certificate, or else plain HTTP, for this registry (repeatable)' -r
complete -c rpub -n "__fish_rpub_using_subcommand artifact; and __fish_seen_subcommand_from tree" -l plain-http -d 'Reach this registry by plain HTTP (repeatable)' -r
complete -c rpub -n "__fish_rpub_using_subcommand artifact; and __fish_seen_subcommand_from tree" -l skip-tls-verify -d 'Do not verify the certificate of this registry (repeatable)' -r
complete -c rpub -n "__fish_rpub_using_subcommand artifact; and __fish_seen_subcommand_from tree" -l ca-file -d 'Also trust the certificate authorities in this PEM file (repeatable)' -r -F
complete -c rpub -n "__fish_rpub_using_subcommand artifact; and __fish_seen_subcommand_from tree" -l cert-dir -d 'Use the authorities (*.crt) and client certificate (*.cert, *.key) in this directory' -r -F
complete -c rpub -n "__fish_rpub_using_subcommand artifact; and __fish_seen_subcommand_from tree" -l registries-conf -d 'Read mirrors from this file [default: containers/registries.conf in ~/.config or /etc]' -r -F
complete -c rpub -n "__fish_rpub_using_subcommand artifact; and __fish_seen_subcommand_from tree" -l retry-times -d 'Try a failed request so many times more [default: 4]' -r
complete -c rpub -n "__fish_rpub_using_subcommand artifact; and __fish_seen_subcommand_from tree" -l retry-delay -d 'Wait so long before the first retry, twice as long before each further one [default: 500ms]' -r
complete -c rpub -n "__fish_rpub_using_subcommand artifact; and __fish_seen_subcommand_from tree" -l max-wait -d 'Give up at once when a registry asks for a longer wait than this [default: 1m]' -r
complete -c rpub -n "__fish_rpub_using_subcommand artifact; and __fish_seen_subcommand_from tree" -l idle-timeout -d 'Break off when a registry does nothing for so long [default: 90s]' -r
complete -c rpub -n "__fish_rpub_using_subcommand artifact; and __fish_seen_subcommand_from tree" -l concurrency -d 'Move at most so many blobs at once each way [default: what the registry takes, up to 16]' -r
complete -c rpub -n "__fish_rpub_using_subcommand artifact; and __fish_seen_subcommand_from tree" -l limit-rate -d 'Move at most so many bytes a second, both ways together, as in 5MB' -r
complete -c rpub -n "__fish_rpub_using_subcommand artifact; and __fish_seen_subcommand_from tree" -l resolve -d 'Connect to this address for a registry\'s host and port (repeatable)' -r
complete -c rpub -n "__fish_rpub_using_subcommand artifact; and __fish_seen_subcommand_from tree" -l http-header -d 'Send this header to registries; @FILE reads lines from a file (repeatable)' -r
complete -c rpub -n "__fish_rpub_using_subcommand artifact; and __fish_seen_subcommand_from tree" -l user-agent-prefix -d 'Put this text before rpub\'s own in the user agent' -r
complete -c rpub -n "__fish_rpub_using_subcommand artifact; and __fish_seen_subcommand_from tree" -l authfile -d 'Look for logins in this file only; login and logout change it' -r -F
complete -c rpub -n "__fish_rpub_using_subcommand artifact; and __fish_seen_subcommand_from tree" -l src-authfile -d 'Look for logins for what is read from registries in this file only' -r -F
complete -c rpub -n "__fish_rpub_using_subcommand artifact; and __fish_seen_subcommand_from tree" -l dest-authfile -d 'Look for logins for what is written to registries in this file only' -r -F
complete -c rpub -n "__fish_rpub_using_subcommand artifact; and __fish_seen_subcommand_from tree" -l registry-token-file -d 'Send the bearer token in this file to this registry (repeatable)' -r
complete -c rpub -n "__fish_rpub_using_subcommand artifact; and __fish_seen_subcommand_from tree" -s q -l quiet -d 'Show no progress, print only the result'
complete -c rpub -n "__fish_rpub_using_subcommand artifact; and __fish_seen_subcommand_from tree" -l offline -d 'Open no connection to anybody: what is here counts, as it was last seen'
complete -c rpub -n "__fish_rpub_using_subcommand artifact; and __fish_seen_subcommand_from tree" -s h -l help -d 'Print help'
complete -c rpub -n "__fish_rpub_using_subcommand artifact; and __fish_seen_subcommand_from discover" -l artifact-type -d 'Show only what refers to the image with this artifact type' -r
complete -c rpub -n "__fish_rpub_using_subcommand artifact; and __fish_seen_subcommand_from discover" -l platform -d 'Of an index, take the manifest for this platform' -r
complete -c rpub -n "__fish_rpub_using_subcommand artifact; and __fish_seen_subcommand_from discover" -l format -d 'Print json, the template given, or with table before it a table: \'table {{.ID}}\'' -r
complete -c rpub -n "__fish_rpub_using_subcommand artifact; and __fish_seen_subcommand_from discover" -l store -d 'Keep images, layers and the build cache here [default: ~/.local/share/rpub]' -r -F
complete -c rpub -n "__fish_rpub_using_subcommand artifact; and __fish_seen_subcommand_from discover" -l cache-size -d 'Keep the build cache within this size [default: a fifth of the disk, 10 to 100 GiB]' -r
complete -c rpub -n "__fish_rpub_using_subcommand artifact; and __fish_seen_subcommand_from discover" -l progress -d 'Show progress as auto, tty, plain, quiet or rawjson' -r -f -a "auto\t'Bars on a terminal, plain lines elsewhere'
tty\t'Bars'
plain\t'Numbered lines'
quiet\t'Nothing but warnings and errors'
rawjson\t'One JSON object a line, for programs'"
complete -c rpub -n "__fish_rpub_using_subcommand artifact; and __fish_seen_subcommand_from discover" -l insecure-registry -d 'Allow TLS with any certificate, or else plain HTTP, for this registry (repeatable)' -r
complete -c rpub -n "__fish_rpub_using_subcommand artifact; and __fish_seen_subcommand_from discover" -l plain-http -d 'Reach this registry by plain HTTP (repeatable)' -r
complete -c rpub -n "__fish_rpub_using_subcommand artifact; and __fish_seen_subcommand_from discover" -l skip-tls-verify -d 'Do not verify the certificate of this registry (repeatable)' -r
complete -c rpub -n "__fish_rpub_using_subcommand artifact; and __fish_seen_subcommand_from discover" -l ca-file -d 'Also trust the certificate authorities in this PEM file (repeatable)' -r -F
complete -c rpub -n "__fish_rpub_using_subcommand artifact; and __fish_seen_subcommand_from discover" -l cert-dir -d 'Use the authorities (*.crt) and client certificate (*.cert, *.key) in this directory' -r -F
complete -c rpub -n "__fish_rpub_using_subcommand artifact; and __fish_seen_subcommand_from discover" -l registries-conf -d 'Read mirrors from this file [default: containers/registries.conf in ~/.config or /etc]' -r -F
complete -c rpub -n "__fish_rpub_using_subcommand artifact; and __fish_seen_subcommand_from discover" -l retry-times -d 'Try a failed request so many times more [default: 4]' -r
complete -c rpub -n "__fish_rpub_using_subcommand artifact; and __fish_seen_subcommand_from discover" -l retry-delay -d 'Wait so long before the first retry, twice as long before each further one [default: 500ms]' -r
complete -c rpub -n "__fish_rpub_using_subcommand artifact; and __fish_seen_subcommand_from discover" -l max-wait -d 'Give up at once when a registry asks for a longer wait than this [default: 1m]' -r
complete -c rpub -n "__fish_rpub_using_subcommand artifact; and __fish_seen_subcommand_from discover" -l idle-timeout -d 'Break off when a registry does nothing for so long [default: 90s]' -r
complete -c rpub -n "__fish_rpub_using_subcommand artifact; and __fish_seen_subcommand_from discover" -l concurrency -d 'Move at most so many blobs at once each way [default: what the registry takes, up to 16]' -r
complete -c rpub -n "__fish_rpub_using_subcommand artifact; and __fish_seen_subcommand_from discover" -l limit-rate -d 'Move at most so many bytes a second, both ways together, as in 5MB' -r
complete -c rpub -n "__fish_rpub_using_subcommand artifact; and __fish_seen_subcommand_from discover" -l resolve -d 'Connect to this address for a registry\'s host and port (repeatable)' -r
complete -c rpub -n "__fish_rpub_using_subcommand artifact; and __fish_seen_subcommand_from discover" -l http-header -d 'Send this header to registries; @FILE reads lines from a file (repeatable)' -r
complete -c rpub -n "__fish_rpub_using_subcommand artifact; and __fish_seen_subcommand_from discover" -l user-agent-prefix -d 'Put this text before rpub\'s own in the user agent' -r
complete -c rpub -n "__fish_rpub_using_subcommand artifact; and __fish_seen_subcommand_from discover" -l authfile -d 'Look for logins in this file only; login and logout change it' -r -F
complete -c rpub -n "__fish_rpub_using_subcommand artifact; and __fish_seen_subcommand_from discover" -l src-authfile -d 'Look for logins for what is read from registries in this file only' -r -F
complete -c rpub -n "__fish_rpub_using_subcommand artifact; and __fish_seen_subcommand_from discover" -l dest-authfile -d 'Look for logins for what is written to registries in this file only' -r -F
complete -c rpub -n "__fish_rpub_using_subcommand artifact; and __fish_seen_subcommand_from discover" -l registry-token-file -d 'Send the bearer token in this file to this registry (repeatable)' -r
complete -c rpub -n "__fish_rpub_using_subcommand artifact; and __fish_seen_subcommand_from discover" -s q -l quiet -d 'Show no progress, print only the result'
complete -c rpub -n "__fish_rpub_using_subcommand artifact; and __fish_seen_subcommand_from discover" -l offline -d 'Open no connection to anybody: what is here counts, as it was last seen'
complete -c rpub -n "__fish_rpub_using_subcommand artifact; and __fish_seen_subcommand_from discover" -s h -l help -d 'Print help'
complete -c rpub -n "__fish_rpub_using_subcommand artifact; and __fish_seen_subcommand_from help" -f -a "push" -d 'Push files and directories as an artifact'
complete -c rpub -n "__fish_rpub_using_subcommand artifact; and __fish_seen_subcommand_from help" -f -a "pull" -d 'Pull the files of an artifact into a directory'
complete -c rpub -n "__fish_rpub_using_subcommand artifact; and __fish_seen_subcommand_from help" -f -a "attach" -d 'Push files and directories as an artifact that refers to an image'
complete -c rpub -n "__fish_rpub_using_subcommand artifact; and __fish_seen_subcommand_from help" -f -a "tree" -d 'Show what refers to an image, what refers to that, and so on'
complete -c rpub -n "__fish_rpub_using_subcommand artifact; and __fish_seen_subcommand_from help" -f -a "help" -d 'Print this message or the help of the given subcommand(s)'
complete -c rpub -n "__fish_rpub_using_subcommand serve" -l listen -d 'Listen on this address, a free port for port 0' -r
complete -c rpub -n "__fish_rpub_using_subcommand serve" -l name -d 'Keep what is pushed under this registry name' -r
complete -c rpub -n "__fish_rpub_using_subcommand serve" -l proxy -d 'Be a pull-through cache of this registry; the first one is meant by names without a registry' -r
complete -c rpub -n "__fish_rpub_using_subcommand serve" -l revalidate -d 'Ask again after so long what a cached tag names' -r
complete -c rpub -n "__fish_rpub_using_subcommand serve" -l max-size -d 'Let cached images take so much at most; those unused for longest go [default: half of the file system]' -r
complete -c rpub -n "__fish_rpub_using_subcommand serve" -l tls-cert -d 'Speak TLS with this certificate, in PEM; a new one in the file is used at once' -r -F
complete -c rpub -n "__fish_rpub_using_subcommand serve" -l tls-key -d 'The key of the certificate' -r -F
complete -c rpub -n "__fish_rpub_using_subcommand serve" -l tls-client-ca -d 'Serve only clients with a certificate of these authorities' -r -F
complete -c rpub -n "__fish_rpub_using_subcommand serve" -l store -d 'Keep images, layers and the build cache here [default: ~/.local/share/rpub]' -r -F
complete -c rpub -n "__fish_rpub_using_subcommand serve" -l cache-size -d 'Keep the build cache within this size [default: a fifth of the disk, 10 to 100 GiB]' -r
complete -c rpub -n "__fish_rpub_using_subcommand serve" -l progress -d 'Show progress as auto, tty, plain, quiet or rawjson' -r -f -a "auto\t'Bars on a terminal, plain lines elsewhere'
tty\t'Bars'
plain\t'Numbered lines'
quiet\t'Nothing but warnings and errors'
rawjson\t'One JSON object a line, for programs'"
complete -c rpub -n "__fish_rpub_using_subcommand serve" -l insecure-registry -d 'Allow TLS with any certificate, or else plain HTTP, for this registry (repeatable)' -r
complete -c rpub -n "__fish_rpub_using_subcommand serve" -l plain-http -d 'Reach this registry by plain HTTP (repeatable)' -r
complete -c rpub -n "__fish_rpub_using_subcommand serve" -l skip-tls-verify -d 'Do not verify the certificate of this registry (repeatable)' -r
complete -c rpub -n "__fish_rpub_using_subcommand serve" -l ca-file -d 'Also trust the certificate authorities in this PEM file (repeatable)' -r -F
complete -c rpub -n "__fish_rpub_using_subcommand serve" -l cert-dir -d 'Use the authorities (*.crt) and client certificate (*.cert, *.key) in this directory' -r -F
complete -c rpub -n "__fish_rpub_using_subcommand serve" -l registries-conf -d 'Read mirrors from this file [default: containers/registries.conf in ~/.config or /etc]' -r -F
complete -c rpub -n "__fish_rpub_using_subcommand serve" -l retry-times -d 'Try a failed request so many times more [default: 4]' -r
complete -c rpub -n "__fish_rpub_using_subcommand serve" -l retry-delay -d 'Wait so long before the first retry, twice as long before each further one [default: 500ms]' -r
complete -c rpub -n "__fish_rpub_using_subcommand serve" -l max-wait -d 'Give up at once when a registry asks for a longer wait than this [default: 1m]' -r
complete -c rpub -n "__fish_rpub_using_subcommand serve" -l idle-timeout -d 'Break off when a registry does nothing for so long [default: 90s]' -r
complete -c rpub -n "__fish_rpub_using_subcommand serve" -l concurrency -d 'Move at most so many blobs at once each way [default: what the registry takes, up to 16]' -r
complete -c rpub -n "__fish_rpub_using_subcommand serve" -l limit-rate -d 'Move at most so many bytes a second, both ways together, as in 5MB' -r
complete -c rpub -n "__fish_rpub_using_subcommand serve" -l resolve -d 'Connect to this address for a registry\'s host and port (repeatable)' -r
complete -c rpub -n "__fish_rpub_using_subcommand serve" -l http-header -d 'Send this header to registries; @FILE reads lines from a file (repeatable)' -r
complete -c rpub -n "__fish_rpub_using_subcommand serve" -l user-agent-prefix -d 'Put this text before rpub\'s own in the user agent' -r
complete -c rpub -n "__fish_rpub_using_subcommand serve" -l authfile -d 'Look for logins in this file only; login and logout change it' -r -F
complete -c rpub -n "__fish_rpub_using_subcommand serve" -l src-authfile -d 'Look for logins for what is read from registries in this file only' -r -F
complete -c rpub -n "__fish_rpub_using_subcommand serve" -l dest-authfile -d 'Look for logins for what is written to registries in this file only' -r -F
complete -c rpub -n "__fish_rpub_using_subcommand serve" -l registry-token-file -d 'Send the bearer token in this file to this registry (repeatable)' -r
complete -c rpub -n "__fish_rpub_using_subcommand serve" -l read-only -d 'Refuse every change'
complete -c rpub -n "__fish_rpub_using_subcommand serve" -s q -l quiet -d 'Show no progress, print only the result'
complete -c rpub -n "__fish_rpub_using_subcommand serve" -l offline -d 'Open no connection to anybody: what is here counts, as it was last seen'
complete -c rpub -n "__fish_rpub_using_subcommand serve" -s h -l help -d 'Print help'
complete -c rpub -n "__fish_rpub_using_subcommand completion" -l store -d 'Keep images, layers and the build cache here [default: ~/.local/share/rpub]' -r -F
complete -c rpub -n "__fish_rpub_using_subcommand completion" -l cache-size -d 'Keep the build cache within this size [default: a fifth of the disk, 10 to 100 GiB]' -r
complete -c rpub -n "__fish_rpub_using_subcommand completion" -l progress -d 'Show progress as auto, tty, plain, quiet or rawjson' -r -f -a "auto\t'Bars on a terminal, plain lines elsewhere'
tty\t'Bars'
plain\t'Numbered lines'
quiet\t'Nothing but warnings and errors'
rawjson\t'One JSON object a line, for programs'"
complete -c rpub -n "__fish_rpub_using_subcommand completion" -l insecure-registry -d 'Allow TLS with any certificate, or else plain HTTP, for this registry (repeatable)' -r
complete -c rpub -n "__fish_rpub_using_subcommand completion" -l plain-http -d 'Reach this registry by plain HTTP (repeatable)' -r
complete -c rpub -n "__fish_rpub_using_subcommand completion" -l skip-tls-verify -d 'Do not verify the certificate of this registry (repeatable)' -r
complete -c rpub -n "__fish_rpub_using_subcommand completion" -l ca-file -d 'Also trust the certificate authorities in this PEM file (repeatable)' -r -F
complete -c rpub -n "__fish_rpub_using_subcommand completion" -l cert-dir -d 'Use the authorities (*.crt) and client certificate (*.cert, *.key) in this directory' -r -F
complete -c rpub -n "__fish_rpub_using_subcommand completion" -l registries-conf -d 'Read mirrors from this file [default: containers/registries.conf in ~/.config or /etc]' -r -F
complete -c rpub -n "__fish_rpub_using_subcommand completion" -l retry-times -d 'Try a failed request so many times more [default: 4]' -r
complete -c rpub -n "__fish_rpub_using_subcommand completion" -l retry-delay -d 'Wait so long before the first retry, twice as long before each further one [default: 500ms]' -r
complete -c rpub -n "__fish_rpub_using_subcommand completion" -l max-wait -d 'Give up at once when a registry asks for a longer wait than this [default: 1m]' -r
complete -c rpub -n "__fish_rpub_using_subcommand completion" -l idle-timeout -d 'Break off when a registry does nothing for so long [default: 90s]' -r
complete -c rpub -n "__fish_rpub_using_subcommand completion" -l concurrency -d 'Move at most so many blobs at once each way [default: what the registry takes, up to 16]' -r
complete -c rpub -n "__fish_rpub_using_subcommand completion" -l limit-rate -d 'Move at most so many bytes a second, both ways together, as in 5MB' -r
complete -c rpub -n "__fish_rpub_using_subcommand completion" -l resolve -d 'Connect to this address for a registry\'s host and port (repeatable)' -r
complete -c rpub -n "__fish_rpub_using_subcommand completion" -l http-header -d 'Send this header to registries; @FILE reads lines from a file (repeatable)' -r
complete -c rpub -n "__fish_rpub_using_subcommand completion" -l user-agent-prefix -d 'Put this text before rpub\'s own in the user agent' -r
complete -c rpub -n "__fish_rpub_using_subcommand completion" -l authfile -d 'Look for logins in this file only; login and logout change it' -r -F
complete -c rpub -n "__fish_rpub_using_subcommand completion" -l src-authfile -d 'Look for logins for what is read from registries in this file only' -r -F
complete -c rpub -n "__fish_rpub_using_subcommand completion" -l dest-authfile -d 'Look for logins for what is written to registries in this file only' -r -F
complete -c rpub -n "__fish_rpub_using_subcommand completion" -l registry-token-file -d 'Send the bearer token in this file to this registry (repeatable)' -r
complete -c rpub -n "__fish_rpub_using_subcommand completion" -s q -l quiet -d 'Show no progress, print only the result'
complete -c rpub -n "__fish_rpub_using_subcommand completion" -l offline -d 'Open no connection to anybody: what is here counts, as it was last seen'
complete -c rpub -n "__fish_rpub_using_subcommand completion" -s h -l help -d 'Print help'
complete -c rpub -n "__fish_rpub_using_subcommand version" -l format -d 'Print json, the template given, or with table before it a table: \'table {{.ID}}\'' -r
complete -c rpub -n "__fish_rpub_using_subcommand version" -l store -d 'Keep images, layers and the build cache here [default: ~/.local/share/rpub]' -r -F
complete -c rpub -n "__fish_rpub_using_subcommand version" -l cache-size -d 'Keep the build cache within this size [default: a fifth of the disk, 10 to 100 GiB]' -r
complete -c rpub -n "__fish_rpub_using_subcommand version" -l progress -d 'Show progress as auto, tty, plain, quiet or rawjson' -r -f -a "auto\t'Bars on a terminal, plain lines elsewhere'
tty\t'Bars'
plain\t'Numbered lines'
quiet\t'Nothing but warnings and errors'
rawjson\t'One JSON object a line, for programs'"
complete -c rpub -n "__fish_rpub_using_subcommand version" -l insecure-registry -d 'Allow TLS with any certificate, or else plain HTTP, for this registry (repeatable)' -r
complete -c rpub -n "__fish_rpub_using_subcommand version" -l plain-http -d 'Reach this registry by plain HTTP (repeatable)' -r
complete -c rpub -n "__fish_rpub_using_subcommand version" -l skip-tls-verify -d 'Do not verify the certificate of this registry (repeatable)' -r
complete -c rpub -n "__fish_rpub_using_subcommand version" -l ca-file -d 'Also trust the certificate authorities in this PEM file (repeatable)' -r -F
complete -c rpub -n "__fish_rpub_using_subcommand version" -l cert-dir -d 'Use the authorities (*.crt) and client certificate (*.cert, *.key) in this directory' -r -F
complete -c rpub -n "__fish_rpub_using_subcommand version" -l registries-conf -d 'Read mirrors from this file [default: containers/registries.conf in ~/.config or /etc]' -r -F
complete -c rpub -n "__fish_rpub_using_subcommand version" -l retry-times -d 'Try a failed request so many times more [default: 4]' -r
complete -c rpub -n "__fish_rpub_using_subcommand version" -l retry-delay -d 'Wait so long before the first retry, twice as long before each further one [default: 500ms]' -r
complete -c rpub -n "__fish_rpub_using_subcommand version" -l max-wait -d 'Give up at once when a registry asks for a longer wait than this [default: 1m]' -r
complete -c rpub -n "__fish_rpub_using_subcommand version" -l idle-timeout -d 'Break off when a registry does nothing for so long [default: 90s]' -r
complete -c rpub -n "__fish_rpub_using_subcommand version" -l concurrency -d 'Move at most so many blobs at once each way [default: what the registry takes, up to 16]' -r
complete -c rpub -n "__fish_rpub_using_subcommand version" -l limit-rate -d 'Move at most so many bytes a second, both ways together, as in 5MB' -r
complete -c rpub -n "__fish_rpub_using_subcommand version" -l resolve -d 'Connect to this address for a registry\'s host and port (repeatable)' -r
complete -c rpub -n "__fish_rpub_using_subcommand version" -l http-header -d 'Send this header to registries; @FILE reads lines from a file (repeatable)' -r
complete -c rpub -n "__fish_rpub_using_subcommand version" -l user-agent-prefix -d 'Put this text before rpub\'s own in the user agent' -r
complete -c rpub -n "__fish_rpub_using_subcommand version" -l authfile -d 'Look for logins in this file only; login and logout change it' -r -F
complete -c rpub -n "__fish_rpub_using_subcommand version" -l src-authfile -d 'Look for logins for what is read from registries in this file only' -r -F
complete -c rpub -n "__fish_rpub_using_subcommand version" -l dest-authfile -d 'Look for logins for what is written to registries in this file only' -r -F
complete -c rpub -n "__fish_rpub_using_subcommand version" -l registry-token-file -d 'Send the bearer token in this file to this registry (repeatable)' -r
complete -c rpub -n "__fish_rpub_using_subcommand version" -s q -l quiet -d 'Show no progress, print only the result'
complete -c rpub -n "__fish_rpub_using_subcommand version" -l offline -d 'Open no connection to anybody: what is here counts, as it was last seen'
complete -c rpub -n "__fish_rpub_using_subcommand version" -s h -l help -d 'Print help'
complete -c rpub -n "__fish_rpub_using_subcommand help; and not __fish_seen_subcommand_from build build-push lock fetch push pull images image tag rmi inspect history import bundle copy mirror save load index mutate append flatten rebase validate df prune system builder login logout whoami auth digest manifest blob repo referrers ping artifact serve completion version help" -f -a "build" -d 'Build an image from a Dockerfile'
complete -c rpub -n "__fish_rpub_using_subcommand help; and not __fish_seen_subcommand_from build build-push lock fetch push pull images image tag rmi inspect history import bundle copy mirror save load index mutate append flatten rebase validate df prune system builder login logout whoami auth digest manifest blob repo referrers ping artifact serve completion version help" -f -a "build-push" -d 'Build an image and push it to every tag given'
complete -c rpub -n "__fish_rpub_using_subcommand help; and not __fish_seen_subcommand_from build build-push lock fetch push pull images image tag rmi inspect history import bundle copy mirror save load index mutate append flatten rebase validate df prune system builder login logout whoami auth digest manifest blob repo referrers ping artifact serve completion version help" -f -a "lock" -d 'Keep the digests of what a Dockerfile starts from and adds in rpub.lock'
complete -c rpub -n "__fish_rpub_using_subcommand help; and not __fish_seen_subcommand_from build build-push lock fetch push pull images image tag rmi inspect history import bundle copy mirror save load index mutate append flatten rebase validate df prune system builder login logout whoami auth digest manifest blob repo referrers ping artifact serve completion version help" -f -a "fetch" -d 'Bring all that a Dockerfile starts from and adds into the store'
complete -c rpub -n "__fish_rpub_using_subcommand help; and not __fish_seen_subcommand_from build build-push lock fetch push pull images image tag rmi inspect history import bundle copy mirror save load index mutate append flatten rebase validate df prune system builder login logout whoami auth digest manifest blob repo referrers ping artifact serve completion version help" -f -a "push" -d 'Push an image from the store to its registry'
complete -c rpub -n "__fish_rpub_using_subcommand help; and not __fish_seen_subcommand_from build build-push lock fetch push pull images image tag rmi inspect history import bundle copy mirror save load index mutate append flatten rebase validate df prune system builder login logout whoami auth digest manifest blob repo referrers ping artifact serve completion version help" -f -a "pull" -d 'Pull an image into the store'
complete -c rpub -n "__fish_rpub_using_subcommand help; and not __fish_seen_subcommand_from build build-push lock fetch push pull images image tag rmi inspect history import bundle copy mirror save load index mutate append flatten rebase validate df prune system builder login logout whoami auth digest manifest blob repo referrers ping artifact serve completion version help" -f -a "images" -d 'List images'
complete -c rpub -n "__fish_rpub_using_subcommand help; and not __fish_seen_subcommand_from build build-push lock fetch push pull images image tag rmi inspect history import bundle copy mirror save load index mutate append flatten rebase validate df prune system builder login logout whoami auth digest manifest blob repo referrers ping artifact serve completion version help" -f -a "image" -d 'Work with images'
complete -c rpub -n "__fish_rpub_using_subcommand help; and not __fish_seen_subcommand_from build build-push lock fetch push pull images image tag rmi inspect history import bundle copy mirror save load index mutate append flatten rebase validate df prune system builder login logout whoami auth digest manifest blob repo referrers ping artifact serve completion version help" -f -a "tag" -d 'Give an image another name, or list and remove the tags of a registry'
complete -c rpub -n "__fish_rpub_using_subcommand help; and not __fish_seen_subcommand_from build build-push lock fetch push pull images image tag rmi inspect history import bundle copy mirror save load index mutate append flatten rebase validate df prune system builder login logout whoami auth digest manifest blob repo referrers ping artifact serve completion version help" -f -a "rmi" -d 'Remove names and images'
complete -c rpub -n "__fish_rpub_using_subcommand help; and not __fish_seen_subcommand_from build build-push lock fetch push pull images image tag rmi inspect history import bundle copy mirror save load index mutate append flatten rebase validate df prune system builder login logout whoami auth digest manifest blob repo referrers ping artifact serve completion version help" -f -a "inspect" -d 'Show everything about an image'
complete -c rpub -n "__fish_rpub_using_subcommand help; and not __fish_seen_subcommand_from build build-push lock fetch push pull images image tag rmi inspect history import bundle copy mirror save load index mutate append flatten rebase validate df prune system builder login logout whoami auth digest manifest blob repo referrers ping artifact serve completion version help" -f -a "history" -d 'Show what made each layer of an image'
complete -c rpub -n "__fish_rpub_using_subcommand help; and not __fish_seen_subcommand_from build build-push lock fetch push pull images image tag rmi inspect history import bundle copy mirror save load index mutate append flatten rebase validate df prune system builder login logout whoami auth digest manifest blob repo referrers ping artifact serve completion version help" -f -a "import" -d 'Make an image from a root file system tar or directory'
complete -c rpub -n "__fish_rpub_using_subcommand help; and not __fish_seen_subcommand_from build build-push lock fetch push pull images image tag rmi inspect history import bundle copy mirror save load index mutate append flatten rebase validate df prune system builder login logout whoami auth digest manifest blob repo referrers ping artifact serve completion version help" -f -a "bundle" -d 'Carry images where there is no network: many in one file, each layer once'
complete -c rpub -n "__fish_rpub_using_subcommand help; and not __fish_seen_subcommand_from build build-push lock fetch push pull images image tag rmi inspect history import bundle copy mirror save load index mutate append flatten rebase validate df prune system builder login logout whoami auth digest manifest blob repo referrers ping artifact serve completion version help" -f -a "copy" -d 'Copy an image with all platforms and signatures, between registries and files'
complete -c rpub -n "__fish_rpub_using_subcommand help; and not __fish_seen_subcommand_from build build-push lock fetch push pull images image tag rmi inspect history import bundle copy mirror save load index mutate append flatten rebase validate df prune system builder login logout whoami auth digest manifest blob repo referrers ping artifact serve completion version help" -f -a "mirror" -d 'Bring images of many registries where a file says, and only what has changed'
complete -c rpub -n "__fish_rpub_using_subcommand help; and not __fish_seen_subcommand_from build build-push lock fetch push pull images image tag rmi inspect history import bundle copy mirror save load index mutate append flatten rebase validate df prune system builder login logout whoami auth digest manifest blob repo referrers ping artifact serve completion version help" -f -a "save" -d 'Write images of the store to a file, as docker save does'
complete -c rpub -n "__fish_rpub_using_subcommand help; and not __fish_seen_subcommand_from build build-push lock fetch push pull images image tag rmi inspect history import bundle copy mirror save load index mutate append flatten rebase validate df prune system builder login logout whoami auth digest manifest blob repo referrers ping artifact serve completion version help" -f -a "load" -d 'Read the images of a file into the store, as docker load does'
complete -c rpub -n "__fish_rpub_using_subcommand help; and not __fish_seen_subcommand_from build build-push lock fetch push pull images image tag rmi inspect history import bundle copy mirror save load index mutate append flatten rebase validate df prune system builder login logout whoami auth digest manifest blob repo referrers ping artifact serve completion version help" -f -a "index" -d 'Make and edit indexes, which hold the images of several platforms under one name'
complete -c rpub -n "__fish_rpub_using_subcommand help; and not __fish_seen_subcommand_from build build-push lock fetch push pull images image tag rmi inspect history import bundle copy mirror save load index mutate append flatten rebase validate df prune system builder login logout whoami auth digest manifest blob repo referrers ping artifact serve completion version help" -f -a "mutate" -d 'Change labels, environment, annotations, times or format of an image in a registry'
complete -c rpub -n "__fish_rpub_using_subcommand help; and not __fish_seen_subcommand_from build build-push lock fetch push pull images image tag rmi inspect history import bundle copy mirror save load index mutate append flatten rebase validate df prune system builder login logout whoami auth digest manifest blob repo referrers ping artifact serve completion version help" -f -a "append" -d 'Put layers on an image in a registry'
complete -c rpub -n "__fish_rpub_using_subcommand help; and not __fish_seen_subcommand_from build build-push lock fetch push pull images image tag rmi inspect history import bundle copy mirror save load index mutate append flatten rebase validate df prune system builder login logout whoami auth digest manifest blob repo referrers ping artifact serve completion version help" -f -a "flatten" -d 'Make one layer of all layers of an image in a registry'
complete -c rpub -n "__fish_rpub_using_subcommand help; and not __fish_seen_subcommand_from build build-push lock fetch push pull images image tag rmi inspect history import bundle copy mirror save load index mutate append flatten rebase validate df prune system builder login logout whoami auth digest manifest blob repo referrers ping artifact serve completion version help" -f -a "rebase" -d 'Put an image in a registry on another base, or see whether it should be'
complete -c rpub -n "__fish_rpub_using_subcommand help; and not __fish_seen_subcommand_from build build-push lock fetch push pull images image tag rmi inspect history import bundle copy mirror save load index mutate append flatten rebase validate df prune system builder login logout whoami auth digest manifest blob repo referrers ping artifact serve completion version help" -f -a "validate" -d 'Read an image whole and hash everything again'
complete -c rpub -n "__fish_rpub_using_subcommand help; and not __fish_seen_subcommand_from build build-push lock fetch push pull images image tag rmi inspect history import bundle copy mirror save load index mutate append flatten rebase validate df prune system builder login logout whoami auth digest manifest blob repo referrers ping artifact serve completion version help" -f -a "df" -d 'Show what the store takes on disk'
complete -c rpub -n "__fish_rpub_using_subcommand help; and not __fish_seen_subcommand_from build build-push lock fetch push pull images image tag rmi inspect history import bundle copy mirror save load index mutate append flatten rebase validate df prune system builder login logout whoami auth digest manifest blob repo referrers ping artifact serve completion version help" -f -a "prune" -d 'Remove what only makes later builds faster, and images without a name'
complete -c rpub -n "__fish_rpub_using_subcommand help; and not __fish_seen_subcommand_from build build-push lock fetch push pull images image tag rmi inspect history import bundle copy mirror save load index mutate append flatten rebase validate df prune system builder login logout whoami auth digest manifest blob repo referrers ping artifact serve completion version help" -f -a "system" -d 'Look after the store'
complete -c rpub -n "__fish_rpub_using_subcommand help; and not __fish_seen_subcommand_from build build-push lock fetch push pull images image tag rmi inspect history import bundle copy mirror save load index mutate append flatten rebase validate df prune system builder login logout whoami auth digest manifest blob repo referrers ping artifact serve completion version help" -f -a "builder" -d 'Look after the build cache'
complete -c rpub -n "__fish_rpub_using_subcommand help; and not __fish_seen_subcommand_from build build-push lock fetch push pull images image tag rmi inspect history import bundle copy mirror save load index mutate append flatten rebase validate df prune system builder login logout whoami auth digest manifest blob repo referrers ping artifact serve completion version help" -f -a "login" -d 'Log in to a registry'
complete -c rpub -n "__fish_rpub_using_subcommand help; and not __fish_seen_subcommand_from build build-push lock fetch push pull images image tag rmi inspect history import bundle copy mirror save load index mutate append flatten rebase validate df prune system builder login logout whoami auth digest manifest blob repo referrers ping artifact serve completion version help" -f -a "logout" -d 'Log out of a registry'
complete -c rpub -n "__fish_rpub_using_subcommand help; and not __fish_seen_subcommand_from build build-push lock fetch push pull images image tag rmi inspect history import bundle copy mirror save load index mutate append flatten rebase validate df prune system builder login logout whoami auth digest manifest blob repo referrers ping artifact serve completion version help" -f -a "whoami" -d 'Show who is logged in to a registry'
complete -c rpub -n "__fish_rpub_using_subcommand help; and not __fish_seen_subcommand_from build build-push lock fetch push pull images image tag rmi inspect history import bundle copy mirror save load index mutate append flatten rebase validate df prune system builder login logout whoami auth digest manifest blob repo referrers ping artifact serve completion version help" -f -a "auth" -d 'See which credentials open a repository, or get a token'
complete -c rpub -n "__fish_rpub_using_subcommand help; and not __fish_seen_subcommand_from build build-push lock fetch push pull images image tag rmi inspect history import bundle copy mirror save load index mutate append flatten rebase validate df prune system builder login logout whoami auth digest manifest blob repo referrers ping artifact serve completion version help" -f -a "digest" -d 'Print the digest of an image in its registry'
complete -c rpub -n "__fish_rpub_using_subcommand help; and not __fish_seen_subcommand_from build build-push lock fetch push pull images image tag rmi inspect history import bundle copy mirror save load index mutate append flatten rebase validate df prune system builder login logout whoami auth digest manifest blob repo referrers ping artifact serve completion version help" -f -a "manifest" -d 'Work with the manifests of a registry'
complete -c rpub -n "__fish_rpub_using_subcommand help; and not __fish_seen_subcommand_from build build-push lock fetch push pull images image tag rmi inspect history import bundle copy mirror save load index mutate append flatten rebase validate df prune system builder login logout whoami auth digest manifest blob repo referrers ping artifact serve completion version help" -f -a "blob" -d 'Work with the blobs of a registry'
complete -c rpub -n "__fish_rpub_using_subcommand help; and not __fish_seen_subcommand_from build build-push lock fetch push pull images image tag rmi inspect history import bundle copy mirror save load index mutate append flatten rebase validate df prune system builder login logout whoami auth digest manifest blob repo referrers ping artifact serve completion version help" -f -a "repo" -d 'Work with the repositories of a registry'
complete -c rpub -n "__fish_rpub_using_subcommand help; and not __fish_seen_subcommand_from build build-push lock fetch push pull images image tag rmi inspect history import bundle copy mirror save load index mutate append flatten rebase validate df prune system builder login logout whoami auth digest manifest blob repo referrers ping artifact serve completion version help" -f -a "referrers" -d 'List what refers to an image: signatures, attestations and other artifacts'
complete -c rpub -n "__fish_rpub_using_subcommand help; and not __fish_seen_subcommand_from build build-push lock fetch push pull images image tag rmi inspect history import bundle copy mirror save load index mutate append flatten rebase validate df prune system builder login logout whoami auth digest manifest blob repo referrers ping artifact serve completion version help" -f -a "ping" -d 'Say whether a registry answers, how, and what it wants to see'
complete -c rpub -n "__fish_rpub_using_subcommand help; and not __fish_seen_subcommand_from build build-push lock fetch push pull images image tag rmi inspect history import bundle copy mirror save load index mutate append flatten rebase validate df prune system builder login logout whoami auth digest manifest blob repo referrers ping artifact serve completion version help" -f -a "artifact" -d 'Move files as artifacts, and attach them to images'
complete -c rpub -n "__fish_rpub_using_subcommand help; and not __fish_seen_subcommand_from build build-push lock fetch push pull images image tag rmi inspect history import bundle copy mirror save load index mutate append flatten rebase validate df prune system builder login logout whoami auth digest manifest blob repo referrers ping artifact serve completion version help" -f -a "serve" -d 'Serve the store as a registry'
complete -c rpub -n "__fish_rpub_using_subcommand help; and not __fish_seen_subcommand_from build build-push lock fetch push pull images image tag rmi inspect history import bundle copy mirror save load index mutate append flatten rebase validate df prune system builder login logout whoami auth digest manifest blob repo referrers ping artifact serve completion version help" -f -a "completion" -d 'Print a shell completion script'
complete -c rpub -n "__fish_rpub_using_subcommand help; and not __fish_seen_subcommand_from build build-push lock fetch push pull images image tag rmi inspect history import bundle copy mirror save load index mutate append flatten rebase validate df prune system builder login logout whoami auth digest manifest blob repo referrers ping artifact serve completion version help" -f -a "version" -d 'Print the version'
complete -c rpub -n "__fish_rpub_using_subcommand help; and not __fish_seen_subcommand_from build build-push lock fetch push pull images image tag rmi inspect history import bundle copy mirror save load index mutate append flatten rebase validate df prune system builder login logout whoami auth digest manifest blob repo referrers ping artifact serve completion version help" -f -a "help" -d 'Print this message or the help of the given subcommand(s)'
complete -c rpub -n "__fish_rpub_using_subcommand help; and __fish_seen_subcommand_from image" -f -a "build" -d 'Build an image from a Dockerfile'
complete -c rpub -n "__fish_rpub_using_subcommand help; and __fish_seen_subcommand_from image" -f -a "ls" -d 'List images'
complete -c rpub -n "__fish_rpub_using_subcommand help; and __fish_seen_subcommand_from image" -f -a "pull" -d 'Pull an image into the store'
complete -c rpub -n "__fish_rpub_using_subcommand help; and __fish_seen_subcommand_from image" -f -a "push" -d 'Push an image from the store to its registry'
complete -c rpub -n "__fish_rpub_using_subcommand help; and __fish_seen_subcommand_from image" -f -a "tag" -d 'Give an image another name'
complete -c rpub -n "__fish_rpub_using_subcommand help; and __fish_seen_subcommand_from image" -f -a "rm" -d 'Remove names and images'
complete -c rpub -n "__fish_rpub_using_subcommand help; and __fish_seen_subcommand_from image" -f -a "inspect" -d 'Show everything about an image'
complete -c rpub -n "__fish_rpub_using_subcommand help; and __fish_seen_subcommand_from image" -f -a "history" -d 'Show what made each layer of an image'
complete -c rpub -n "__fish_rpub_using_subcommand help; and __fish_seen_subcommand_from image" -f -a "import" -d 'Make an image from a root file system tar or directory'
complete -c rpub -n "__fish_rpub_using_subcommand help; and __fish_seen_subcommand_from image" -f -a "save" -d 'Write images of the store to a file, as docker save does'
complete -c rpub -n "__fish_rpub_using_subcommand help; and __fish_seen_subcommand_from image" -f -a "load" -d 'Read the images of a file into the store, as docker load does'
complete -c rpub -n "__fish_rpub_using_subcommand help; and __fish_seen_subcommand_from tag" -f -a "ls" -d 'List the tags of a repository in its registry'
complete -c rpub -n "__fish_rpub_using_subcommand help; and __fish_seen_subcommand_from tag" -f -a "rm" -d 'Remove tags from a registry, and leave the images'
complete -c rpub -n "__fish_rpub_using_subcommand help; and __fish_seen_subcommand_from bundle" -f -a "create" -d 'Put images into a new bundle; one that was begun is gone on with'
complete -c rpub -n "__fish_rpub_using_subcommand help; and __fish_seen_subcommand_from bundle" -f -a "add" -d 'Add images to a bundle'
complete -c rpub -n "__fish_rpub_using_subcommand help; and __fish_seen_subcommand_from bundle" -f -a "load" -d 'Load the images of a bundle into the store, or into a registry; the store needs no network'
complete -c rpub -n "__fish_rpub_using_subcommand help; and __fish_seen_subcommand_from bundle" -f -a "verify" -d 'Read a bundle whole: hash everything again, and see whether anything is missing'
complete -c rpub -n "__fish_rpub_using_subcommand help; and __fish_seen_subcommand_from bundle" -f -a "ls" -d 'List the images of a bundle, or write down what a place has for `--delta-from`'
complete -c rpub -n "__fish_rpub_using_subcommand help; and __fish_seen_subcommand_from bundle" -f -a "diff" -d 'Show in what two bundles differ'
complete -c rpub -n "__fish_rpub_using_subcommand help; and __fish_seen_subcommand_from mirror" -f -a "plan" -d 'Show what a run would copy, move and cost of quotas'
complete -c rpub -n "__fish_rpub_using_subcommand help; and __fish_seen_subcommand_from mirror" -f -a "convert" -d 'Print a file of skopeo\'s or regsync\'s in rpub\'s words'
complete -c rpub -n "__fish_rpub_using_subcommand help; and __fish_seen_subcommand_from mirror" -f -a "schema" -d 'Print the JSON schema of mirror files'
complete -c rpub -n "__fish_rpub_using_subcommand help; and __fish_seen_subcommand_from index" -f -a "create" -d 'Make an index of images, which may be in other registries'
complete -c rpub -n "__fish_rpub_using_subcommand help; and __fish_seen_subcommand_from index" -f -a "add" -d 'Add images to an index'
complete -c rpub -n "__fish_rpub_using_subcommand help; and __fish_seen_subcommand_from index" -f -a "rm" -d 'Take images out of an index'
complete -c rpub -n "__fish_rpub_using_subcommand help; and __fish_seen_subcommand_from index" -f -a "annotate" -d 'Annotate an index or its entries'
complete -c rpub -n "__fish_rpub_using_subcommand help; and __fish_seen_subcommand_from index" -f -a "inspect" -d 'Show an index'
complete -c rpub -n "__fish_rpub_using_subcommand help; and __fish_seen_subcommand_from system" -f -a "df" -d 'Show what the store takes on disk'
complete -c rpub -n "__fish_rpub_using_subcommand help; and __fish_seen_subcommand_from system" -f -a "prune" -d 'Remove what only makes later builds faster, and images without a name'
complete -c rpub -n "__fish_rpub_using_subcommand help; and __fish_seen_subcommand_from builder" -f -a "prune" -d 'Remove what only makes later builds faster, and images without a name'
complete -c rpub -n "__fish_rpub_using_subcommand help; and __fish_seen_subcommand_from auth" -f -a "explain" -d 'Show where credentials for an image are looked for, and which are used'
complete -c rpub -n "__fish_rpub_using_subcommand help; and __fish_seen_subcommand_from auth" -f -a "token" -d 'Print a token for an image\'s repository'
complete -c rpub -n "__fish_rpub_using_subcommand help; and __fish_seen_subcommand_from manifest" -f -a "get" -d 'Print a manifest or index, byte by byte as it is in the registry'
complete -c rpub -n "__fish_rpub_using_subcommand help; and __fish_seen_subcommand_from manifest" -f -a "head" -d 'Print a manifest\'s media type, digest and size'
complete -c rpub -n "__fish_rpub_using_subcommand help; and __fish_seen_subcommand_from manifest" -f -a "put" -d 'Push a manifest or index, byte by byte as it is in a file'
complete -c rpub -n "__fish_rpub_using_subcommand help; and __fish_seen_subcommand_from manifest" -f -a "diff" -d 'Show in what two manifests or indexes differ'
complete -c rpub -n "__fish_rpub_using_subcommand help; and __fish_seen_subcommand_from manifest" -f -a "rm" -d 'Remove a manifest and all its tags from a registry'
complete -c rpub -n "__fish_rpub_using_subcommand help; and __fish_seen_subcommand_from blob" -f -a "get" -d 'Print a blob, or write it to a file'
complete -c rpub -n "__fish_rpub_using_subcommand help; and __fish_seen_subcommand_from blob" -f -a "head" -d 'Print a blob\'s digest and size, if it is there'
complete -c rpub -n "__fish_rpub_using_subcommand help; and __fish_seen_subcommand_from blob" -f -a "put" -d 'Push a file as a blob, and print its digest'
complete -c rpub -n "__fish_rpub_using_subcommand help; and __fish_seen_subcommand_from blob" -f -a "rm" -d 'Remove a blob from a registry'
complete -c rpub -n "__fish_rpub_using_subcommand help; and __fish_seen_subcommand_from repo" -f -a "ls" -d 'List the repositories of a registry'
complete -c rpub -n "__fish_rpub_using_subcommand help; and __fish_seen_subcommand_from artifact" -f -a "push" -d 'Push files and directories as an artifact'
complete -c rpub -n "__fish_rpub_using_subcommand help; and __fish_seen_subcommand_from artifact" -f -a "pull" -d 'Pull the files of an artifact into a directory'
complete -c rpub -n "__fish_rpub_using_subcommand help; and __fish_seen_subcommand_from artifact" -f -a "attach" -d 'Push files and directories as an artifact that refers to an image'
complete -c rpub -n "__fish_rpub_using_subcommand help; and __fish_seen_subcommand_from artifact" -f -a "tree" -d 'Show what refers to an image, what refers to that, and so on'
