/* What libfaketime leaves out: C11's cnd_timedwait, by which librdkafka waits. glibc's own goes to the kernel with the
 * time that libfaketime has told and that the kernel's clock knows nothing of. Here it waits as a kernel would whose clock
 * is set: until the told time is reached, however the clock jumps on the way. */
#define _GNU_SOURCE
#include <errno.h>
#include <pthread.h>
#include <threads.h>
#include <time.h>

#define LOOK_EVERY_NS 5000000L

int cnd_timedwait(cnd_t *condition, mtx_t *mutex, const struct timespec *until) {
    for (;;) {
        struct timespec told, look;
        clock_gettime(CLOCK_REALTIME, &told);
        if (told.tv_sec > until->tv_sec || (told.tv_sec == until->tv_sec && told.tv_nsec >= until->tv_nsec))
            return thrd_timedout;
        clock_gettime(CLOCK_MONOTONIC, &look);
        look.tv_nsec += LOOK_EVERY_NS;
        if (look.tv_nsec >= 1000000000L) {
            look.tv_nsec -= 1000000000L;
            look.tv_sec += 1;
        }
        /* glibc's cnd_t and mtx_t are its pthread types (nptl/cnd_timedwait.c). */
        int ended = pthread_cond_clockwait((pthread_cond_t *)condition, (pthread_mutex_t *)mutex, CLOCK_MONOTONIC, &look);
        if (ended != ETIMEDOUT)
            return ended == 0 ? thrd_success : thrd_error;
    }
}
