package tcpserver

import (
	"io/fs"
	"os"
	"path/filepath"
	"sync"
)

// SetUnlinkOnClose sets whether the file of a unix socket is removed when listening ends. By default the file is
// removed that Listen or Bind has made, and that of a *net.UnixListener passed to ListenOn if it would have removed it;
// the file of a descriptor that ListenFile was given stays. It may be called in any state, counts at once, and stays
// over Close and Listen. A file that others have put in its place is left alone in any case.
//
// A descriptor that was passed to ListenOn or ListenFile tells the path that it was bound to, and not what is there
// now. A relative path, which may mean another file by now, is left alone, and so is what is no socket. A socket that
// others have put there before is taken for the descriptor's own: where that can be, call SetUnlinkOnClose(false).
//
// To hand a unix socket over to another process, call File, SetUnlinkOnClose(false) and Close; the other, once it
// serves the descriptor with ListenFile, may call SetUnlinkOnClose(true).
func (s *TcpServer) SetUnlinkOnClose(unlink bool) {
	s.mu.Lock()
	s.unlink = &unlink
	s.mu.Unlock()
}

// removeFile removes the file of ln's unix socket if it is to be removed, and has not been given up before. mu is not
// held.
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

// A socketFile is the file of a unix socket; nil: there is none.
type socketFile struct {
	path    string // absolute: the program may change its directory
	info    fs.FileInfo
	removed sync.Once
}

// fileAt returns the file of the unix socket of that name.
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

// adoptedFile returns the file of a unix socket that was bound elsewhere, as far as it can be told. Where a relative
// path leads depends on the directory of then, and what is no socket was put there by others.
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

// remove leaves alone what others have put in the place of the file. A second call waits for the first.
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
