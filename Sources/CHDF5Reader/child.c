// The child process: what it may do, and how it ends.
//
// Source   seccomp(2), prctl(2), close_range(2), memfd_create(2), setitimer(2) of Linux
// fork     glibc makes malloc usable in the child of a program with threads; nothing else that locks is called

#define _GNU_SOURCE
#include "hdf5_reader.h"

#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/syscall.h>
#include <sys/time.h>
#include <sys/wait.h>
#include <unistd.h>

#include <linux/audit.h>
#include <linux/filter.h>
#include <linux/seccomp.h>

#if defined(__x86_64__)
#define THIS_ARCHITECTURE AUDIT_ARCH_X86_64
#elif defined(__aarch64__)
#define THIS_ARCHITECTURE AUDIT_ARCH_AARCH64
#else
#define THIS_ARCHITECTURE 0
#endif

// Bytes of address space that the process has now. The child asks, not the program: there, another thread may take some
// between the question and the fork, such as an arena of malloc.
static size_t address_space(void) {
  char text[32] = "";
  int file = open("/proc/self/statm", O_RDONLY | O_CLOEXEC);
  if (file < 0) return 0;
  ssize_t count = read(file, text, sizeof text - 1);
  close(file);
  size_t pages = 0;
  for (ssize_t i = 0; i < count && text[i] >= '0' && text[i] <= '9'; ++i)
    pages = 10 * pages + (size_t)(text[i] - '0');
  return pages * (size_t)sysconf(_SC_PAGESIZE);
}

#define ALLOW(number)                                           \
  BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, (number), 0, 1),          \
      BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ALLOW)

// Memory, time and the end: every other call of the system fails with EPERM.
static void forbid_everything(void) {
  static struct sock_filter rules[] = {
      BPF_STMT(BPF_LD | BPF_W | BPF_ABS, offsetof(struct seccomp_data, arch)),
      BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, THIS_ARCHITECTURE, 1, 0),
      BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_KILL_PROCESS),
      BPF_STMT(BPF_LD | BPF_W | BPF_ABS, offsetof(struct seccomp_data, nr)),
      ALLOW(SYS_mmap),
      ALLOW(SYS_munmap),
      ALLOW(SYS_mremap),
      ALLOW(SYS_mprotect),
      ALLOW(SYS_madvise),
      ALLOW(SYS_brk),
      ALLOW(SYS_futex),
      ALLOW(SYS_clock_gettime),
      ALLOW(SYS_gettimeofday),
      ALLOW(SYS_exit),
      ALLOW(SYS_exit_group),
      ALLOW(SYS_rt_sigreturn),
      // abort() of the library sends a signal to itself.
      ALLOW(SYS_rt_sigprocmask),
      ALLOW(SYS_getpid),
      ALLOW(SYS_gettid),
      ALLOW(SYS_tgkill),
      BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ERRNO | EPERM),
  };
  struct sock_fprog program = {.len = sizeof(rules) / sizeof(rules[0]), .filter = rules};
  // A kernel without seccomp leaves the other walls: no descriptors, limits of memory and time.
  if (THIS_ARCHITECTURE && prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) == 0)
    prctl(PR_SET_SECCOMP, SECCOMP_MODE_FILTER, &program);
}

static void limit_child(size_t memory, unsigned seconds) {
  // Signal handlers of the program, such as Swift's backtraces, are not the child's.
  for (int number = 1; number < NSIG; ++number) signal(number, SIG_DFL);
  sigset_t none;
  sigemptyset(&none);
  sigprocmask(SIG_SETMASK, &none, NULL);
  prctl(PR_SET_PDEATHSIG, SIGKILL);
  prctl(PR_SET_DUMPABLE, 0);
  setrlimit(RLIMIT_CORE, &(struct rlimit){0, 0});
  if (memory) setrlimit(RLIMIT_AS, &(struct rlimit){memory, memory});
  // Processor time ends a loop; the clock ends a child that waits for what never comes.
  setitimer(ITIMER_PROF, &(struct itimerval){.it_value = {.tv_sec = seconds}}, NULL);
  setitimer(ITIMER_REAL, &(struct itimerval){.it_value = {.tv_sec = 60 * (time_t)seconds}}, NULL);
  syscall(SYS_close_range, 0, ~0U, 0);
  forbid_everything();
}

struct hdf5_outcome hdf5_read(const void *bytes, size_t count, size_t limit, unsigned seconds,
                              int chunks) {
  struct hdf5_outcome outcome = {.descriptor = -1};
  int descriptor = memfd_create("hdf5 answer", MFD_CLOEXEC);
  if (descriptor < 0 || ftruncate(descriptor, (off_t)limit) != 0) {
    outcome.error = errno;
    if (descriptor >= 0) close(descriptor);
    return outcome;
  }
  struct hdf5_answer *answer =
      mmap(NULL, limit, PROT_READ | PROT_WRITE, MAP_SHARED, descriptor, 0);
  if (answer == MAP_FAILED) {
    outcome.error = errno;
    close(descriptor);
    return outcome;
  }
  hdf5_prepare();
  pid_t child = fork();
  if (child == 0) {
    size_t space = address_space();
    limit_child(space ? space + limit : 0, seconds);
    hdf5_walk(bytes, count, answer, limit, chunks);
    _exit(0);
  }
  int status = 0;
  if (child < 0) {
    outcome.error = errno;
  } else {
    while (waitpid(child, &status, 0) < 0 && errno == EINTR) {
    }
    if (WIFSIGNALED(status)) outcome.signal = WTERMSIG(status);
    // Whatever the child wrote is checked by who reads it; only its end is taken from here.
    outcome.used = answer->used;
    if (!outcome.signal && (!answer->is_complete || outcome.used > limit)) outcome.signal = SIGABRT;
  }
  munmap(answer, limit);
  if (outcome.error || outcome.signal || ftruncate(descriptor, (off_t)outcome.used) != 0) {
    if (!outcome.error && !outcome.signal) outcome.error = errno;
    close(descriptor);
    return outcome;
  }
  outcome.descriptor = descriptor;
  return outcome;
}
