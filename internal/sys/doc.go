// Package sys makes every system call on a socket. It knows nothing of servers, sockets and loops: package tcpserver
// decides what a result means and which error a user sees.
//
// Each system defines the following. The files are named for what they do; build tags say where.
//
//	FD, Errno, EAGAIN, EINTR             a descriptor, an error of the system, and two that callers handle
//	IsReset, ResetErrnos                 the errors of a connection that the peer has reset
//	IsTransient, IsExhausted             errors of Accept: of that connection alone; no descriptors or memory left
//	IsReleasing                          an error of Bind: the address may be released in a moment
//	Bind, BindUnix, Listen               a descriptor that listens
//	Dup, IsListening, SetNonblock        a descriptor that somebody else has opened
//	Accept, HasConnection, AcceptShared  a connection, without waiting
//	Recv, Send, Unread                   bytes, without waiting
//	CloseRead, CloseWrite                the end of one direction
//	Close, CloseBlocking                 the end of the descriptor
//	LocalAddr, LocalPath, PeerPath       addresses
//	SetNoDelay, SetKeepAlive, SetLinger, SetReadBuffer, SetWriteBuffer
//	MaxUnixPath                          the longest path of a unix socket, in bytes
//	HasReusePort, HasFileModes           whether Bind and BindUnix can do what those arguments ask for
//	HasAbstractNames                     whether unix sockets may have names that are not files
//	OptionsInherited                     whether accepted connections inherit TCP_NODELAY and keep-alive
//
// Errors of type error are an *[os.SyscallError] with an Errno. Errno itself is for the calls that are made for each
// message or connection.
package sys
