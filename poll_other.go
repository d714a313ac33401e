//go:build !(linux || darwin || dragonfly || freebsd || netbsd || openbsd || windows)

package tcpserver

import "github.com/pullaccept/tcpserver/internal/sys"

// Supported reports whether this platform has a poller; where it has none, Listen returns ErrUnsupported.
func Supported() bool { return false }

// endsAreEvents: whether the end of a stream is one is told by the event alone.
const endsAreEvents = false

// kernel has the methods that the loop needs to compile; no loop is ever started here.
type kernel struct{}

func (k *kernel) open() error                 { return ErrUnsupported }
func (k *kernel) add(sys.FD, slotKey) error   { return ErrUnsupported }
func (k *kernel) remove(sys.FD, slotKey)      {}
func (k *kernel) expect(slotKey, events)      {}
func (k *kernel) poll() int                   { return 0 }
func (k *kernel) wait() int                   { return 0 }
func (k *kernel) event(int) (slotKey, events) { return slotKey{}, 0 }
func (k *kernel) wake()                       {}
func (k *kernel) stir()                       {}
func (k *kernel) close()                      {}
