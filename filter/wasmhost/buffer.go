package wasmhost

import "slices"

// buffer is a body, or a part of it.
type buffer struct{ b []byte }

// Buffers.

// buffer finds a buffer: b is its content, body the buffer behind it if it can be changed.
func (c call) buffer() (b []byte, body *buffer, st Status) {
	ctx := c.in.current()
	t := c.u32(0)
	switch f := ctx.filter; {
	case int(t) >= len(bufferNames):
		return nil, nil, StatusBadArgument
	case t == 0 && f != nil:
		if body = f.requestBody; f.decode.buffering {
			body = f.stream.request.buffered
		} else if body != nil && c.in.frame.callback != cbRequestBody {
			c.in.misuse(c.in.frame.callback, "proxy_get_buffer_bytes", "the part of the body that the last callback showed is gone")
		}
	case t == 1 && f != nil:
		if body = f.responseBody; f.encode.buffering {
			body = f.stream.response.buffered
		}
	case t == 4 && ctx.root.response != nil:
		return ctx.root.response.body, nil, StatusOK
	case t == 6:
		return c.in.vm.cfg.Configuration, nil, StatusOK
	case t == 7 && ctx.root.configuring && f == nil:
		return ctx.root.plugin.cfg.Configuration, nil, StatusOK
	case t == 4 || t == 7:
		return nil, nil, StatusNotFound
	}
	if body != nil {
		b = body.b
	}
	return b, body, StatusOK
}

func (c call) getBuffer() Status {
	b, _, st := c.buffer()
	if st != StatusOK {
		return st
	}
	start, length := uint64(c.u32(1)), uint64(c.u32(2))
	if start > uint64(len(b)) {
		return c.putBytes(3, nil)
	}
	return c.putBytes(3, b[start:min(start+length, uint64(len(b)))])
}

// setBuffer can prepend (start and length 0), append (start at or past the end) and replace all (start 0, length at
// least the size). Envoy knows no more.
func (c call) setBuffer() Status {
	_, body, st := c.buffer()
	if st != StatusOK {
		return st
	}
	start, length, data := uint64(c.u32(1)), uint64(c.u32(2)), c.bytes(3)
	switch {
	case body == nil:
		return StatusBadArgument
	case start == 0 && length == 0:
		body.b = slices.Concat(data, body.b)
	case start == 0 && length >= uint64(len(body.b)):
		body.b = slices.Clone(data)
	case start != 0 && start >= uint64(len(body.b)):
		body.b = append(body.b, data...)
	default:
		return StatusBadArgument
	}
	return StatusOK
}

func (c call) bufferStatus() Status {
	b, _, st := c.buffer()
	if st != StatusOK {
		return st
	}
	if st := c.put32(1, uint32(len(b))); st != StatusOK {
		return st
	}
	return c.put32(2, 0)
}
