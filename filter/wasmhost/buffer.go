package wasmhost

import "slices"

// buffer is a body, or a part of it.
type buffer struct{ b []byte }

// buffer returns the content of the buffer in parameter 0. body is the buffer itself if the module
// can change it.
func (c call) buffer() (b []byte, body *buffer, st Status) {
	ctx := c.in.current()
	t := c.u32(0)

	switch f := ctx.filter; {
	case int(t) >= len(bufferNames):
		return nil, nil, StatusBadArgument
	case t == bufferRequestBody && f != nil:
		if body = f.requestBody; f.decode.buffering {
			body = f.stream.request.buffered
		} else if body != nil && c.in.frame.callback != cbRequestBody {
			c.in.misuse(c.in.frame.callback, "proxy_get_buffer_bytes", "the part of the body that the last callback showed is gone")
		}
	case t == bufferResponseBody && f != nil:
		if body = f.responseBody; f.encode.buffering {
			body = f.stream.response.buffered
		}
	case t == bufferCallBody && ctx.root.response != nil:
		return ctx.root.response.body, nil, StatusOK
	case t == bufferVMConfiguration:
		return c.in.vm.cfg.Configuration, nil, StatusOK
	case t == bufferPluginConfiguration && ctx.root.configuring && f == nil:
		return ctx.root.plugin.cfg.Configuration, nil, StatusOK
	case t == bufferCallBody || t == bufferPluginConfiguration:
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

// setBuffer prepends (start and length are 0), appends (start is at or after the end) or replaces
// everything (start is 0, length at least the size). Envoy supports nothing else.
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
