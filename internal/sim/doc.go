// Package sim is a system of sockets in memory, for tests with the tag sim. It has what the library uses of Linux, the
// BSDs and Windows: descriptors that are reused and run out, listeners with a backlog, buffers of a given size,
// half-closed and reset connections, open file descriptions that several descriptors share, and readiness that is
// reported in the manner of epoll, of kqueue or of AFD. What a real system decides by chance, the run's seed decides.
//
// Package sched runs one task at a time, so nothing here is locked.
package sim
