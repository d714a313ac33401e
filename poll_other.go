//go:build !(linux || darwin || dragonfly || freebsd || netbsd || openbsd || windows)

package tcpserver

import "github.com/pullaccept/tcpserver/internal/sys"

// Supported reports whether this platform has a poller. If not, [TcpServer.Listen] returns [ErrUnsupported].
func Supported() bool { return false }

// isEOFConfirmed reports whether an end of stream that recv returned is one. Here it always is.
func (*atomicReadiness) isEOFConfirmed() bool { return true }

// selector lets the loop compile. No loop is ever started here.
type selector struct{}

func (s *selector) open() error                 { return ErrUnsupported }
func (s *selector) add(sys.FD, slotKey) error   { return ErrUnsupported }
func (s *selector) remove(sys.FD, slotKey)      {}
func (s *selector) rearm(slotKey, events)       {}
func (s *selector) poll() int                   { return 0 }
func (s *selector) wait() int                   { return 0 }
func (s *selector) event(int) (slotKey, events) { return slotKey{}, 0 }
func (s *selector) wake()                       {}
func (s *selector) wakeMonitor()                {}
func (s *selector) close()                      {}
