//! Restricts a compiler process to a few system calls.

use seccompiler::{
    SeccompAction, SeccompCmpArgLen, SeccompCmpOp, SeccompCondition, SeccompFilter, SeccompRule,
};

/// System calls that do not require any rights: memory, threads, time and open pipes.
const HARMLESS: [i64; 35] = [
    libc::SYS_brk,
    libc::SYS_clock_gettime,
    libc::SYS_clock_nanosleep,
    libc::SYS_close,
    libc::SYS_exit,
    libc::SYS_exit_group,
    libc::SYS_fstat,
    libc::SYS_futex,
    libc::SYS_getpid,
    libc::SYS_getrandom,
    libc::SYS_gettid,
    libc::SYS_madvise,
    libc::SYS_membarrier,
    libc::SYS_mmap,
    libc::SYS_mprotect,
    libc::SYS_mremap,
    libc::SYS_munmap,
    libc::SYS_nanosleep,
    libc::SYS_ppoll,
    libc::SYS_read,
    libc::SYS_readv,
    libc::SYS_restart_syscall,
    libc::SYS_rseq,
    libc::SYS_rt_sigaction,
    libc::SYS_rt_sigprocmask,
    libc::SYS_rt_sigreturn,
    libc::SYS_sched_getaffinity,
    libc::SYS_sched_yield,
    libc::SYS_set_robust_list,
    libc::SYS_set_tid_address,
    libc::SYS_sigaltstack,
    libc::SYS_sysinfo,
    libc::SYS_uname,
    libc::SYS_write,
    libc::SYS_writev,
];

/// Blocks all other system calls for this process, if the kernel supports it. They then fail as if
/// the kernel did not implement them.
pub(super) fn apply() {
    let applied = filter().and_then(|filter| {
        let program: seccompiler::BpfProgram = filter.try_into()?;
        Ok(program)
    });
    if let Ok(program) = applied {
        // This fails if the kernel does not support filters or a container forbids them. The limits
        // still apply.
        let _ = seccompiler::apply_filter_all_threads(&program);
    }
}

fn filter() -> Result<SeccompFilter, seccompiler::BackendError> {
    let argument = |number, operator, value| {
        let condition = SeccompCondition::new(number, SeccompCmpArgLen::Dword, operator, value)?;
        SeccompRule::new(vec![condition])
    };
    let own = u64::from(std::process::id());
    let thread = u64::from(libc::CLONE_THREAD.cast_unsigned());
    let name = u64::from(libc::PR_SET_NAME.cast_unsigned());
    let bounded = [
        // Allows creating threads, but not processes.
        (
            libc::SYS_clone,
            vec![argument(0, SeccompCmpOp::MaskedEq(thread), thread)?],
        ),
        // Used by `abort`.
        (libc::SYS_tgkill, vec![argument(0, SeccompCmpOp::Eq, own)?]),
        // Sets thread names.
        (libc::SYS_prctl, vec![argument(0, SeccompCmpOp::Eq, name)?]),
    ];
    let harmless = HARMLESS.map(|call| (call, Vec::new()));
    SeccompFilter::new(
        harmless.into_iter().chain(bounded).collect(),
        SeccompAction::Errno(libc::ENOSYS.cast_unsigned()),
        SeccompAction::Allow,
        std::env::consts::ARCH.try_into()?,
    )
}
