package tcpserver

import (
	"io/fs"
	"os"
	"path/filepath"
	"sync"
)

// SetUnlinkOnClose sets whether the file of a unix socket is removed when listening ends. By default, a file that
// [TcpServer.Listen] or [TcpServer.Bind] created is removed, and so is that of a *[net.UnixListener] passed to
// [TcpServer.ListenOn] if the listener would have removed it; the file of a descriptor passed to
// [TcpServer.ListenFile] stays. SetUnlinkOnClose may be called in any state, takes effect at once, and remains in
// effect after Close and Listen. A file that somebody else has put in its place is never removed.
//
// A descriptor passed to ListenOn or ListenFile reveals the path to which it was bound, but not what is there now. A
// relative path, which may by now name another file, is left alone, and so is a file that is not a socket. A socket
// that somebody else put there before the call is taken for the descriptor's own: where that can happen, call
// SetUnlinkOnClose(false).
//
// To hand a unix socket over to another process, call [TcpServer.File], SetUnlinkOnClose(false) and
// [TcpServer.Close]. Once the other process serves the descriptor with ListenFile, it may call
// SetUnlinkOnClose(true).
func (s *TcpServer) SetUnlinkOnClose(unlink bool) {
	s.mu.Lock()
	s.unlink = &unlink
	s.mu.Unlock()
}

// removeFile removes the file of ln's unix socket if it is to be removed and the server still has the address of ln.
// mu is not held.
func (s *TcpServer) removeFile(ln *listener) {
	s.mu.Lock()
	unlink := ln.unlink
	if s.unlink != nil {
		unlink = *s.unlink
	}
	unlink = unlink && s.address() == ln
	s.mu.Unlock()
	if unlink {
		ln.file.remove()
	}
}

// A socketFile is the file of a unix socket. It is nil if there is none.
type socketFile struct {
	path    string // absolute, because the program may change its working directory
	info    fs.FileInfo
	removed sync.Once
}

// fileAt returns the file of the unix socket at path, or nil if it has none.
func fileAt(path string) *socketFile {
	if isAbstract(path) {
		return nil
	}
	info, err := os.Lstat(path)
	if err != nil {
		return nil
	}
	if abs, err := filepath.Abs(path); err == nil {
		path = abs
	}
	return &socketFile{path: path, info: info}
}

// adoptedFile returns the file of a unix socket that was bound elsewhere, or nil if it is not certain. A relative
// path depends on the working directory at the time of binding, and a file that is not a socket was put there by
// somebody else.
func adoptedFile(path string) *socketFile {
	if !filepath.IsAbs(path) {
		return nil
	}
	file := fileAt(path)
	if file == nil || file.info.Mode()&fs.ModeSocket == 0 {
		return nil
	}
	return file
}

// remove removes the file, unless somebody else has replaced it. A second call waits for the first.
func (f *socketFile) remove() {
	if f == nil {
		return
	}
	f.removed.Do(func() {
		if now, err := os.Lstat(f.path); err == nil && os.SameFile(now, f.info) {
			os.Remove(f.path)
		}
	})
}
