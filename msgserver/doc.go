// Package msgserver implements servers for whole messages instead of bytes, in the style of those of Haxe's neko.net. A
// [ThreadServer] decodes messages on several event loops and runs its callbacks on one goroutine. A [ServerLoop] runs
// everything on one goroutine.
//
// To use one, set its fields and run it:
//
//	chat := msgserver.ThreadServer[*user, string]{
//		ClientConnected:   join,
//		ReadClientMessage: msgserver.Lines[*user](1 << 10),
//		ClientMessage:     say,
//	}
//	err := chat.Run(ctx, "127.0.0.1", 7000)
//
// An idle client costs neither a goroutine nor a buffer. A client loses its connection, and affects no other, if it
// fills its buffer without completing a message, makes a callback panic, or does not take what it is sent.
//
// # Decoding
//
// A ThreadServer passes the bytes that have arrived to [ThreadServer.ReadClientMessage], which decodes one message.
// [Lines], [LengthPrefix16], [LengthPrefix32] and [Split] return such functions. A ServerLoop passes them to
// [ServerLoop.ProcessClientData], which decodes and handles them. Neither function is passed more than MaxBufferSize
// bytes. A message that does not fit ends its client with [ErrBufferFull], however TCP divides it.
//
// # Closing
//
// The end of a client's stream is handled after the client's messages. The replies to them are sent before the
// connection is closed, also to a client that has half-closed its connection, as nc -N does. A client that the program
// or an error ends likewise gets everything that was written to it, and then the end of the stream, however long that
// takes, as long as it takes the data. When Serve ends, the CloseTimeout of the server limits this time.
//
// What such a client still sends is read and discarded. Its connection is closed once it has ended its own stream, or
// its system has acknowledged everything. If the server's system does not report acknowledgements (see Slow clients),
// the connection is closed once a client that reads at the guaranteed rate could have read what the server's system
// has taken. A client that continues to send after that gets a reset from TCP. Some systems, but not Linux, then
// discard what the client's program has not read yet.
//
// # Back-pressure
//
// While more than 256 KiB are queued for a client, or more than half of MaxSendBuffer if that is less, nothing is read
// from the client and none of its messages is handled, so that TCP slows down a client that requests more than it
// takes. MaxSendBuffer limits what callbacks may queue for it beyond that.
//
// # Slow clients
//
// A client for which data is queued, and which takes nothing for ConnectLag, is dropped with [ErrSlowClient]. A client
// has taken what its system has acknowledged, if the server's system reports that (Linux, macOS, FreeBSD, NetBSD), and
// otherwise what the server's own system has taken.
//
// Systems acknowledge in steps: while a program does not read, its system fills its buffer, and then acknowledges
// nothing until the program has emptied a good part of that. Each client therefore has a credit: the number of bytes
// that it has taken lately, of which 64 KiB expire each second. A client is dropped only when its credit is used up
// too. A client that reads at 100 kB/s or more is therefore never dropped, however much is queued. A client that has
// stopped reading is dropped after ConnectLag, or after one second for every 64 KiB that its system took last, if that
// is longer. The credit is at most 256 KiB plus an eighth of the client's receive window. The window is assumed to be
// the largest that the server has seen, or as large as everything that the client has ever taken, up to 4 MiB, if that
// is more. A client that has taken little is therefore dropped after one or two seconds, and one that has taken many
// megabytes after 12 seconds.
//
// A client whose receive buffer is smaller than a segment of its connection, 64 KiB on the loopback interface, cannot
// reach 100 kB/s over TCP and may be dropped too.
package msgserver

// orDefault returns v if it is positive, and byDefault otherwise.
func orDefault[T ~int | ~int64](v, byDefault T) T {
	if v > 0 {
		return v
	}
	return byDefault
}
