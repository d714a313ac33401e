package ui

import (
	"strings"
	"unicode/utf8"
)

// A decoder makes text of a stream of UTF-8. A character that is split between two reads is kept until its rest comes.
type decoder struct {
	rest []byte // at most 3 bytes
}

// add returns the text that p completes. What is not UTF-8 becomes U+FFFD.
func (d *decoder) add(p []byte) string {
	p = append(d.rest, p...)
	whole := len(p)
	for i := 1; i < utf8.UTFMax && i <= len(p); i++ {
		if b := p[len(p)-i]; utf8.RuneStart(b) {
			if !utf8.FullRune(p[len(p)-i:]) {
				whole = len(p) - i
			}
			break
		}
	}
	d.rest = append([]byte(nil), p[whole:]...)
	return strings.ToValidUTF8(string(p[:whole]), "\uFFFD")
}

// end returns what is left when the stream has ended.
func (d *decoder) end() string {
	rest := d.rest
	d.rest = nil
	return strings.ToValidUTF8(string(rest), "\uFFFD")
}
