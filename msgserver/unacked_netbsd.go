//go:build !sim

package msgserver

// fionwrite is FIONWRITE of sys/filio.h, which golang.org/x/sys does not define.
const fionwrite = 0x40046679
