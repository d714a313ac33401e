//go:build (darwin || dragonfly || freebsd || netbsd || openbsd) && !sim

package sys

const (
	ioctlUnread = 0x4004667f // FIONREAD, the same value on all of them

	// HasAbstractNames reports whether unix sockets may have names that are not files.
	HasAbstractNames = false

	// modeBeforeBind reports whether fchmod works on a socket. It does not here, but clients are refused until Listen,
	// which comes after chmod.
	modeBeforeBind = false
)
