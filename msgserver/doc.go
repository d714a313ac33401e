// Package msgserver serves whole messages instead of bytes, with the servers that Haxe's neko.net has: a ThreadServer,
// which decodes on several loops and calls back on one goroutine, and a ServerLoop, which does everything on one.
//
// Both are filled in and run:
//
//	chat := msgserver.ThreadServer[*user, string]{
//		ClientConnected:   join,
//		ReadClientMessage: msgserver.Lines[*user](1 << 10),
//		ClientMessage:     say,
//	}
//	err := chat.Run(ctx, "127.0.0.1", 7000)
//
// An idle client costs neither a goroutine nor a buffer. A client that sends more than a buffer without a whole message
// in it, makes a callback panic, or does not take what it is sent, loses its connection, and harms no other.
//
// # The end of a client
//
// The end of a client's stream is handled after its messages. What they made the server write is sent before the
// connection is closed, also to a client that has half-closed its connection, as nc -N does. The same holds for a
// client that the program or an error ends: what was written before is sent first, and the end of the stream after it,
// however long that takes, as long as the client takes it. At the end of Serve the CloseTimeout of the server limits
// it.
//
// What such a client still sends is read and dropped. Its connection is closed when it has ended its own stream, or its
// system has acknowledged everything. Where the server's system does not tell that (see below), it is closed when what
// the server's system has taken could have been read, at the rate that is promised to be enough. A client that goes on
// sending after that gets a reset from TCP, and some systems, but not Linux, then throw away what the client's program
// has not read yet.
//
// # Slow clients
//
// While more than 256 KiB are queued for a client, or half of MaxSendBuffer if that is less, nothing is read from it
// and none of its messages is handled, so that TCP holds back a client that asks for more than it takes. MaxSendBuffer
// limits what the callbacks may queue for it beyond that.
//
// A client for which something is queued, and which takes nothing for ConnectLag, is dropped with ErrSlowClient. A
// client has taken what its system has acknowledged, where the server's system tells that (Linux, macOS, FreeBSD,
// NetBSD), and elsewhere what the server's own system has taken. A system acknowledges in steps: it first fills its
// buffer for a program that does not read, and then keeps silent until the program has emptied a good part of it. So
// each client has a credit, which is what it has taken lately, and of which 64 KiB are used up each second; it is
// dropped only when that is used up too. Who reads at 100 kB/s or more is therefore never dropped, however much is
// queued, and who has stopped reading is dropped after ConnectLag, or after a second for every 64 KiB that its system
// took last, if that is longer. The credit is at most 256 KiB and an eighth of the client's receive window, which is
// believed to be as large as the server has seen it, and as what the client has ever taken, up to 4 MiB. So a client
// that has taken little before is dropped after a second or two, and one that has taken many megabytes after 12 s.
//
// A client whose receive buffer is smaller than a segment of its connection, 64 KiB on the loopback interface, cannot
// reach 100 kB/s over TCP and may be dropped as well.
package msgserver

func orDefault[T ~int | ~int64](v, byDefault T) T {
	if v > 0 {
		return v
	}
	return byDefault
}
