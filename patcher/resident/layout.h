// Where things are in the page that Darn and the thread share; see page.go.
#define STATE 0
#define COUNT 8
#define TIMEOUT 16
#define SIGNALS 32
#define FILE 40
#define NAME 48
#define FLOCK 64
#define LOCKED 96
#define REQUESTS 256

// The states.
#define IDLE 1
#define ASKED 2
#define RUNNING 3
#define ANSWERED 4
#define LEAVING 5

// A request, and its flags.
#define NUMBER 0
#define FLAGS 4
#define ARGS 8
#define RESULT 56
#define SIZE 64
#define ALWAYS 1
#define EXCHANGE 2

// Linux's numbers.
#define SYS_rt_sigprocmask 14
#define SYS_exit 60
#define SYS_fcntl 72
#define SYS_prctl 157
#define SYS_futex 202
#define SIG_SETMASK 2
#define PR_SET_NAME 15
#define FUTEX_WAIT 0
#define FUTEX_WAKE 1
#define ETIMEDOUT 110
#define F_OFD_GETLK 36
#define F_WRLCK 1
#define F_UNLCK 2
