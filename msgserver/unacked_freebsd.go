package msgserver

// fionwrite is FIONWRITE of sys/filio.h, which x/sys lacks.
const fionwrite = 0x40046677
