package main

import (
	"bytes"
	"strconv"
)

// A store holds the keys and values and runs commands.
type store struct {
	values map[string][]byte
	reply  []byte // to the last command
}

func newStore() *store { return &store{values: make(map[string][]byte)} }

// run runs a command, which has at least a name, and returns the reply. The reply is valid until the next call.
func (s *store) run(command [][]byte) []byte {
	s.reply = s.reply[:0]
	name, args := command[0], command[1:]
	switch {
	case is(name, "PING") && len(args) == 0:
		s.line("+PONG")
	case (is(name, "PING") || is(name, "ECHO")) && len(args) == 1:
		s.bulk(args[0])
	case is(name, "GET") && len(args) == 1:
		s.get(args[0])
	case is(name, "SET") && len(args) == 2:
		s.set(args[0], args[1])
		s.line("+OK")
	case is(name, "DEL") && len(args) > 0:
		s.del(args)
	case is(name, "INCR") && len(args) == 1:
		s.incr(args[0])
	case is(name, "COMMAND"), is(name, "CONFIG"): // which clients send when they connect
		s.line("*0")
	default:
		s.line("-ERR unknown command, or wrong number of arguments")
	}
	return s.reply
}

// is reports whether name is the name of a command, in any case.
func is(name []byte, command string) bool {
	return len(name) == len(command) && bytes.EqualFold(name, []byte(command))
}

// set reuses the memory of the old value, unless that is far too large for the new one.
func (s *store) set(key, value []byte) {
	old := s.values[string(key)]
	if cap(old) > 64+2*len(value) {
		old = nil
	}
	s.values[string(key)] = append(old[:0], value...)
}

func (s *store) get(key []byte) {
	if value, ok := s.values[string(key)]; ok {
		s.bulk(value)
	} else {
		s.line("$-1")
	}
}

func (s *store) del(keys [][]byte) {
	deleted := int64(0)
	for _, key := range keys {
		if _, ok := s.values[string(key)]; ok {
			delete(s.values, string(key))
			deleted++
		}
	}
	s.number(deleted)
}

func (s *store) incr(key []byte) {
	n := int64(0)
	if value, ok := s.values[string(key)]; ok { // an empty value is not a number, as in Redis
		var err error
		if n, err = strconv.ParseInt(string(value), 10, 64); err != nil {
			s.line("-ERR value is not an integer or out of range")
			return
		}
	}
	if n++; n < 0 && n-1 > 0 {
		s.line("-ERR increment would overflow")
		return
	}
	var digits [20]byte
	s.set(key, strconv.AppendInt(digits[:0], n, 10))
	s.number(n)
}

func (s *store) line(text string) { s.reply = append(append(s.reply, text...), "\r\n"...) }

func (s *store) number(n int64) {
	s.reply = append(strconv.AppendInt(append(s.reply, ':'), n, 10), "\r\n"...)
}

func (s *store) bulk(value []byte) {
	s.reply = append(strconv.AppendInt(append(s.reply, '$'), int64(len(value)), 10), "\r\n"...)
	s.reply = append(append(s.reply, value...), "\r\n"...)
}
