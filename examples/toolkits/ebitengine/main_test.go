package main

import (
	"testing"

	"github.com/pullaccept/tcpserver/examples/toolkits/linestest"
)

func TestMain(m *testing.M) { linestest.Main(m, main) }

func TestLinesAreAnsweredAndProgramEnds(t *testing.T) { linestest.Run(t) }
