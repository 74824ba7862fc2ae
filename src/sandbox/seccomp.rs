//! The system call filter of steps (`seccomp(2)`).
//!
//! It refuses what docker's default profile refuses to a container without `CAP_SYS_ADMIN`, as a
//! list of refused calls. Refused calls give `EPERM`; `clone3` gives `ENOSYS`, so that C libraries
//! fall back to `clone`, whose flags a filter can see. The program is written by hand: it is a row
//! of comparisons, it must not set `no_new_privs` (setuid programs work in builds), and it answers
//! for 32-bit programs, too.

use libc::{
    BPF_ABS, BPF_JEQ, BPF_JGE, BPF_JMP, BPF_JSET, BPF_K, BPF_LD, BPF_RET, BPF_W, c_long,
    sock_filter,
};

// seccomp_data: the call's number, the architecture, and the low half of the first argument.
const NUMBER: u32 = 0;
const ARCHITECTURE: u32 = 4;
const FIRST_ARGUMENT: u32 = 16;

#[cfg(target_arch = "x86_64")]
const NATIVE: u32 = 0xc000_003e;
#[cfg(target_arch = "aarch64")]
const NATIVE: u32 = 0xc000_00b7;

const EVERY_NAMESPACE: i32 = libc::CLONE_NEWNS
    | libc::CLONE_NEWUTS
    | libc::CLONE_NEWIPC
    | libc::CLONE_NEWUSER
    | libc::CLONE_NEWPID
    | libc::CLONE_NEWNET
    | libc::CLONE_NEWCGROUP;

/// Calls that every supported architecture has.
const REFUSED: &[c_long] = &[
    libc::SYS_acct,
    libc::SYS_add_key,
    libc::SYS_bpf,
    libc::SYS_clock_settime,
    libc::SYS_delete_module,
    libc::SYS_fanotify_init,
    libc::SYS_finit_module,
    libc::SYS_fsconfig,
    libc::SYS_fsmount,
    libc::SYS_fsopen,
    libc::SYS_fspick,
    libc::SYS_get_mempolicy,
    libc::SYS_init_module,
    libc::SYS_io_uring_enter,
    libc::SYS_io_uring_register,
    libc::SYS_io_uring_setup,
    libc::SYS_kexec_file_load,
    libc::SYS_kexec_load,
    libc::SYS_keyctl,
    libc::SYS_lookup_dcookie,
    libc::SYS_mbind,
    libc::SYS_migrate_pages,
    libc::SYS_mount,
    libc::SYS_mount_setattr,
    libc::SYS_move_mount,
    libc::SYS_move_pages,
    libc::SYS_nfsservctl,
    libc::SYS_open_by_handle_at,
    libc::SYS_open_tree,
    libc::SYS_perf_event_open,
    libc::SYS_pivot_root,
    libc::SYS_quotactl,
    libc::SYS_quotactl_fd,
    libc::SYS_reboot,
    libc::SYS_request_key,
    libc::SYS_set_mempolicy,
    libc::SYS_setdomainname,
    libc::SYS_sethostname,
    libc::SYS_setns,
    libc::SYS_settimeofday,
    libc::SYS_swapoff,
    libc::SYS_swapon,
    libc::SYS_syslog,
    libc::SYS_umount2,
    libc::SYS_unshare,
    libc::SYS_userfaultfd,
    libc::SYS_vhangup,
];

#[cfg(target_arch = "x86_64")]
const REFUSED_HERE: &[c_long] = &[
    libc::SYS__sysctl,
    libc::SYS_ioperm,
    libc::SYS_iopl,
    libc::SYS_sysfs,
    libc::SYS_uselib,
    libc::SYS_ustat,
];
#[cfg(target_arch = "aarch64")]
const REFUSED_HERE: &[c_long] = &[];

/// 32-bit programs on x86-64: the same calls by their numbers there, in the order of the numbers.
#[cfg(target_arch = "x86_64")]
const REFUSED_I386: &[u32] = &[
    21, 22, 25, 51, 52, 62, 74, 79, 86, 87, 88, 101, 103, 110, 111, 113, 115, 121, 127, 128, 129,
    130, 131, 135, 149, 166, 167, 169, 217, 253, 264, 274, 275, 276, 283, 286, 287, 288, 294, 310,
    317, 336, 338, 342, 346, 350, 357, 374, 404, 425, 426, 427, 428, 429, 430, 431, 432, 433, 442,
    443,
];

#[cfg(target_arch = "x86_64")]
const I386: u32 = 0x4000_0003;

/// Values of `personality(2)` that docker allows: the native one, 32-bit Linux, their version lies,
/// and the query.
const PERSONALITIES: [u32; 5] = [0, 8, 0x2_0000, 0x2_0008, u32::MAX];

const ALLOW: sock_filter = returning(libc::SECCOMP_RET_ALLOW);

const fn returning(action: u32) -> sock_filter {
    statement(BPF_RET | BPF_K, action, 0)
}

const fn failing(errno: i32) -> sock_filter {
    returning(libc::SECCOMP_RET_ERRNO | errno.cast_unsigned())
}

#[expect(clippy::cast_possible_truncation, reason = "operation codes are bytes")]
const fn statement(code: u32, k: u32, jf: u8) -> sock_filter {
    sock_filter { code: code as u16, jt: 0, jf, k }
}

const fn load(offset: u32) -> sock_filter {
    statement(BPF_LD | BPF_W | BPF_ABS, offset, 0)
}

/// Goes on with the next instruction when the comparison holds, else skips `otherwise` of them.
const fn unless_skip(comparison: u32, k: u32, otherwise: u8) -> sock_filter {
    statement(BPF_JMP | comparison | BPF_K, k, otherwise)
}

/// Returns the filter for steps.
pub(super) fn filter() -> Vec<sock_filter> {
    let mut program = vec![load(ARCHITECTURE)];
    #[cfg(target_arch = "x86_64")]
    {
        let table =
            Table { refused: REFUSED_I386.to_vec(), clone: 120, clone3: 435, personality: 136 };
        let section = table.section();
        // Too far for a conditional jump: unless i386, over an unconditional one.
        program.push(unless_skip(BPF_JEQ, I386, 1));
        program.push(statement(BPF_JMP, 1, 0));
        let length = u32::try_from(section.len()).unwrap_or(u32::MAX);
        program.push(statement(BPF_JMP, length, 0));
        program.extend(section);
        program.push(load(ARCHITECTURE));
    }
    program.push(unless_skip(BPF_JEQ, NATIVE, 1));
    program.push(statement(BPF_JMP, 1, 0));
    program.push(failing(libc::ENOSYS));
    #[cfg(target_arch = "x86_64")]
    {
        // The x32 numbers name the same calls once more.
        program.extend([load(NUMBER), unless_skip(BPF_JGE, 0x4000_0000, 1), failing(libc::ENOSYS)]);
    }
    let refused = REFUSED.iter().chain(REFUSED_HERE);
    let native = Table {
        refused: refused.filter_map(|&number| u32::try_from(number).ok()).collect(),
        clone: number(libc::SYS_clone),
        clone3: number(libc::SYS_clone3),
        personality: number(libc::SYS_personality),
    };
    program.extend(native.section());
    program
}

fn number(call: c_long) -> u32 {
    u32::try_from(call).expect("system call numbers are small and not negative")
}

/// The numbers of one architecture.
struct Table {
    refused: Vec<u32>,
    clone: u32,
    clone3: u32,
    personality: u32,
}

impl Table {
    /// Returns instructions that decide about every call.
    fn section(&self) -> Vec<sock_filter> {
        let mut section = vec![load(NUMBER)];
        for &refused in &self.refused {
            section.extend([unless_skip(BPF_JEQ, refused, 1), failing(libc::EPERM)]);
        }
        section.extend([unless_skip(BPF_JEQ, self.clone3, 1), failing(libc::ENOSYS)]);
        section.extend([
            unless_skip(BPF_JEQ, self.clone, 4),
            load(FIRST_ARGUMENT),
            unless_skip(BPF_JSET, EVERY_NAMESPACE.cast_unsigned(), 1),
            failing(libc::EPERM),
            ALLOW,
        ]);
        let others = u8::try_from(PERSONALITIES.len() * 2 + 2).unwrap_or(u8::MAX);
        section.extend([unless_skip(BPF_JEQ, self.personality, others), load(FIRST_ARGUMENT)]);
        for allowed in PERSONALITIES {
            section.extend([unless_skip(BPF_JEQ, allowed, 1), ALLOW]);
        }
        section.extend([failing(libc::EPERM), ALLOW]);
        section
    }
}
