// Package pause assembles the program that holds a pod's namespaces: a static executable of a few hundred bytes. It waits
// for one byte on its standard input and ends if none comes, so that it never outlives a peer that died before it had
// put it on record. Then it closes every file it inherited, ignores SIGCHLD, so that the kernel reaps what it adopts as
// process 1, and sleeps until SIGINT, SIGQUIT or SIGTERM. It allocates nothing and uses four pages.
package pause

import (
	"bytes"
	"encoding/binary"
	"fmt"
	"runtime"
)

const (
	base       = 0x400000 // where the file is mapped
	headers    = 64 + 2*56
	dataLength = 40
)

// The words after the code: the signal set, then the kernel's struct sigaction with SIG_IGN.
const (
	signals    = 1<<(2-1) | 1<<(3-1) | 1<<(15-1) // INT, QUIT, TERM
	ignore     = 1                               // SIG_IGN
	noChildren = 2                               // SA_NOCLDWAIT
)

// ELF returns the program for this machine's architecture.
func ELF() ([]byte, error) { return For(runtime.GOARCH) }

// For returns the program for a GOARCH: amd64 or arm64.
func For(arch string) ([]byte, error) {
	switch arch {
	case "amd64":
		return link(62, amd64), nil
	case "arm64":
		return link(183, arm64), nil
	}
	return nil, fmt.Errorf("no pause program for %s", arch)
}

// link lays out headers, code and data in one readable, executable segment. code is called with the data's address.
func link(machine uint16, code func(set, action uint32) []byte) []byte {
	size := len(code(0, 0))
	pad := (8 - size%8) % 8
	data := uint32(base + headers + size + pad)
	text := append(code(data, data+8), make([]byte, pad)...)
	total := uint64(headers + len(text) + dataLength)

	var b bytes.Buffer
	put := func(values ...any) {
		for _, v := range values {
			_ = binary.Write(&b, binary.LittleEndian, v) // a bytes.Buffer takes everything
		}
	}
	b.WriteString("\x7fELF\x02\x01\x01")
	b.Write(make([]byte, 9))
	put(uint16(2), machine, uint32(1), uint64(base+headers), uint64(64), uint64(0))
	put(uint32(0), uint16(64), uint16(56), uint16(2), uint16(0), uint16(0), uint16(0))
	const loadable, stack = 1, 0x6474e551
	put(uint32(loadable), uint32(5), uint64(0), uint64(base), uint64(base), total, total, uint64(0x1000))
	put(uint32(stack), uint32(6), uint64(0), uint64(0), uint64(0), uint64(0), uint64(0), uint64(16))
	b.Write(text)
	put(uint64(signals), uint64(ignore), uint64(noChildren), uint64(0), uint64(0))
	return b.Bytes()
}

// amd64: the number of a system call in eax, arguments in rdi, rsi, rdx, r10.
func amd64(set, action uint32) []byte {
	var b bytes.Buffer
	op := func(code ...byte) { b.Write(code) }
	word := func(v uint32) { _ = binary.Write(&b, binary.LittleEndian, v) }
	eax := func(n uint32) { op(0xb8); word(n) }
	edi := func(n uint32) { op(0xbf); word(n) }
	esi := func(n uint32) { op(0xbe); word(n) }
	zeroEDX := func() { op(0x31, 0xd2) }
	eightR10 := func() { op(0x41, 0xba); word(8) }
	syscall := func() { op(0x0f, 0x05) }

	exit := func() { // exit_group(0)
		op(0x31, 0xff)
		eax(231)
		syscall()
	}

	edi(0)               // read(0, stack, 1)
	op(0x48, 0x89, 0xe6) // mov rsi, rsp
	op(0xba)
	word(1)
	op(0x31, 0xc0)
	syscall()
	op(0x85, 0xc0) // test eax, eax
	op(0x7f, 9)    // jg over exit
	exit()
	edi(0) // close_range(0, ~0, 0)
	esi(0xffffffff)
	zeroEDX()
	eax(436)
	syscall()
	edi(17) // rt_sigaction(SIGCHLD, action, nil, 8)
	esi(action)
	zeroEDX()
	eightR10()
	eax(13)
	syscall()
	edi(0) // rt_sigprocmask(SIG_BLOCK, set, nil, 8)
	esi(set)
	zeroEDX()
	eightR10()
	eax(14)
	syscall()
	loop := b.Len()
	edi(set) // rt_sigtimedwait(set, nil, nil, 8)
	op(0x31, 0xf6)
	zeroEDX()
	eightR10()
	eax(128)
	syscall()
	op(0x85, 0xc0)                   // test eax, eax
	op(0x7e, byte(loop-(b.Len()+2))) // jle loop
	exit()
	return b.Bytes()
}

// arm64: the number of a system call in x8, arguments in x0 to x3.
func arm64(set, action uint32) []byte {
	var b bytes.Buffer
	op := func(v uint32) { _ = binary.Write(&b, binary.LittleEndian, v) }
	movz := func(r, v uint32) { op(0xd2800000 | (v&0xffff)<<5 | r) }
	address := func(r, v uint32) {
		movz(r, v)
		op(0xf2a00000 | (v>>16)<<5 | r) // movk, lsl 16
	}
	svc := func(n uint32) {
		movz(8, n)
		op(0xd4000001)
	}

	exit := func() { // exit_group(0)
		movz(0, 0)
		svc(94)
	}

	movz(0, 0)     // read(0, stack, 1)
	op(0x910003e1) // mov x1, sp
	movz(2, 1)
	svc(63)
	op(0xf100001f)        // cmp x0, 0
	op(0x5400000c | 4<<5) // b.gt over exit
	exit()
	movz(0, 0) // close_range(0, ~0, 0)
	op(0x92800001)
	movz(2, 0)
	svc(436)
	movz(0, 17) // rt_sigaction(SIGCHLD, action, nil, 8)
	address(1, action)
	movz(2, 0)
	movz(3, 8)
	svc(134)
	movz(0, 0) // rt_sigprocmask(SIG_BLOCK, set, nil, 8)
	address(1, set)
	movz(2, 0)
	movz(3, 8)
	svc(135)
	loop := b.Len()
	address(0, set) // rt_sigtimedwait(set, nil, nil, 8)
	movz(1, 0)
	movz(2, 0)
	movz(3, 8)
	svc(137)
	op(0xf100001f)                                       // cmp x0, 0
	op(0x5400000d | uint32((loop-b.Len())/4)&0x7ffff<<5) // b.le loop
	exit()
	return b.Bytes()
}
