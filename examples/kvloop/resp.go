package main

import (
	"bytes"
	"errors"
)

const (
	maxArgs    = 1024     // the most words of a command
	maxLine    = 64 << 10 // the most bytes of a command that is a line
	maxCommand = 2 << 20  // the most bytes of any command
	maxLength  = 16       // the most bytes of a number with its mark and end of line
)

var (
	errProtocol = errors.New("invalid format")
	errTooMany  = errors.New("too many arguments")
	errTooLong  = errors.New("too long")
)

// parse appends the words of the first command in buf to command and returns its length in bytes, or 0 if it is not
// complete yet. The words point into buf. A command is an array of strings, "*2\r\n$3\r\nGET\r\n$1\r\nk\r\n", or a
// line of words. A command that is too long is an error as soon as that is known, no matter how much of it has arrived.
func parse(command [][]byte, buf []byte) ([][]byte, int, error) {
	if len(buf) > 0 && buf[0] != '*' {
		return parseLine(command, buf)
	}
	count, pos, err := length(buf, '*')
	if err != nil || pos == 0 {
		return nil, 0, err
	}
	if count > maxArgs {
		return nil, 0, errTooMany
	}
	for range count {
		size, n, err := length(buf[pos:], '$')
		if err != nil || n == 0 {
			return command[:0], 0, err
		}
		begin := pos + n
		if begin+size+2 > maxCommand {
			return nil, 0, errTooLong
		}
		if len(buf)-begin < size+2 {
			return command[:0], 0, nil
		}
		if buf[begin+size] != '\r' || buf[begin+size+1] != '\n' {
			return nil, 0, errProtocol
		}
		command = append(command, buf[begin:begin+size])
		pos = begin + size + 2
	}
	return command, pos, nil
}

// parseLine is parse for a command that is a line of words.
func parseLine(command [][]byte, buf []byte) ([][]byte, int, error) {
	end := bytes.IndexByte(buf[:min(len(buf), maxLine)], '\n')
	switch {
	case end < 0 && len(buf) >= maxLine:
		return nil, 0, errTooLong
	case end < 0:
		return command, 0, nil
	}
	for word := range bytes.FieldsSeq(buf[:end]) {
		if len(command) == maxArgs {
			return nil, 0, errTooMany
		}
		command = append(command, word)
	}
	return command, end + 1, nil
}

// length parses a line with a mark and a number of up to nine digits. It returns the number and the length of the line
// in bytes, or 0 if the line is not complete yet.
func length(buf []byte, mark byte) (value, n int, err error) {
	for i, b := range buf {
		switch {
		case i == 0 && b == mark:
		case i > 0 && i <= 9 && b >= '0' && b <= '9':
			value = value*10 + int(b-'0')
		case i > 1 && b == '\r':
			if i+1 == len(buf) {
				return 0, 0, nil
			}
			if buf[i+1] != '\n' {
				return 0, 0, errProtocol
			}
			return value, i + 2, nil
		default:
			return 0, 0, errProtocol
		}
	}
	return 0, 0, nil
}
