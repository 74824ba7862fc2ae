//! Flags that say what RUN steps get, and those of docker's that rpub takes and does not need.

use clap::Args;

/// What RUN steps get of the user's.
#[derive(Debug, Args)]
pub(crate) struct StepArgs {
    /// Give a secret to RUN --mount=type=secret: a file, or a variable (repeatable)
    #[arg(long, value_name = "id=ID[,src=FILE|env=NAME]")]
    pub(crate) secret: Vec<String>,
    #[arg(
        long,
        value_name = "default|ID[=SOCKET|KEY[,KEY]]",
        help = "Give an ssh agent to RUN --mount=type=ssh: SSH_AUTH_SOCK's, or by socket or keys \
                (repeatable)"
    )]
    pub(crate) ssh: Vec<String>,
    /// Set the size of /dev/shm of RUN steps, such as 128m [default: 64m]
    #[arg(long, value_name = "SIZE")]
    pub(crate) shm_size: Option<String>,
    /// Set a resource limit of RUN steps, as far as it may be raised (repeatable)
    #[arg(long, value_name = "TYPE=SOFT[:HARD]")]
    pub(crate) ulimit: Vec<String>,
    /// Open a shell where a step fails, with its files, mounts and environment; then fail
    #[arg(long)]
    pub(crate) shell_on_error: bool,
    #[command(flatten)]
    pub(crate) legacy: LegacyArgs,
}

/// Flags of older docker versions that scripts still pass: taken, with a warning.
#[derive(Debug, Args)]
pub(crate) struct LegacyArgs {
    #[arg(long, hide = true, num_args = 0..=1, require_equals = true, default_missing_value = "true")]
    rm: Option<String>,
    #[arg(long, hide = true, num_args = 0..=1, require_equals = true, default_missing_value = "true")]
    force_rm: Option<String>,
    #[arg(long, hide = true, num_args = 0..=1, require_equals = true, default_missing_value = "true")]
    compress: Option<String>,
    #[arg(long, short = 'm', hide = true)]
    memory: Option<String>,
    #[arg(long, hide = true, allow_hyphen_values = true)]
    memory_swap: Option<String>,
    #[arg(long, short = 'c', hide = true)]
    cpu_shares: Option<String>,
    #[arg(long, hide = true)]
    cpu_period: Option<String>,
    #[arg(long, hide = true, allow_hyphen_values = true)]
    cpu_quota: Option<String>,
    #[arg(long, hide = true)]
    cpuset_cpus: Option<String>,
    #[arg(long, hide = true)]
    cpuset_mems: Option<String>,
    #[arg(long, hide = true)]
    cgroup_parent: Option<String>,
    #[arg(long, hide = true)]
    isolation: Option<String>,
    #[arg(long, hide = true)]
    security_opt: Vec<String>,
}

impl LegacyArgs {
    /// Returns a sentence for each flag that was given and changes nothing.
    pub(crate) fn warnings(&self) -> Vec<String> {
        let resources = "steps use what the machine has: rpub does not limit them";
        let given = [
            ("rm", self.rm.is_some(), "nothing of a step is left in any case"),
            ("force-rm", self.force_rm.is_some(), "nothing of a step is left in any case"),
            ("compress", self.compress.is_some(), "the build context is not sent anywhere"),
            ("memory", self.memory.is_some(), resources),
            ("memory-swap", self.memory_swap.is_some(), resources),
            ("cpu-shares", self.cpu_shares.is_some(), resources),
            ("cpu-period", self.cpu_period.is_some(), resources),
            ("cpu-quota", self.cpu_quota.is_some(), resources),
            ("cpuset-cpus", self.cpuset_cpus.is_some(), resources),
            ("cpuset-mems", self.cpuset_mems.is_some(), resources),
            ("cgroup-parent", self.cgroup_parent.is_some(), "steps stay in rpub's own cgroup"),
            ("isolation", self.isolation.is_some(), "steps are isolated by a user namespace"),
            ("security-opt", !self.security_opt.is_empty(), "use `RUN --security` and `--allow`"),
        ];
        let given = given.into_iter().filter(|(_, is_given, _)| *is_given);
        given.map(|(name, _, why)| format!("`--{name}` has no effect: {why}")).collect()
    }
}
