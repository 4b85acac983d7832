package wasmhost

import "slices"

// This file holds the host calls on buffers. The module names a buffer by its number in parameter 0
// (proxy_buffer_type_t, the constants buffer… in abi.go): the body of the request or of the
// response in the stream that is current, the body of the answer to a callout, or a configuration.
// Only the bodies of the stream can be changed. A filter is the part of one plugin in a stream, and
// an activeFilter is its progress in one direction (filter.go, pipe.go).

// bodyBuffer holds the body of a message, or the part of it that is on its way through the filters.
// Filters share it by pointer, so that the next filter gets what a filter has made of it.
type bodyBuffer struct{ bytes []byte }

// body returns what the filter can read and change of the body now, or nil if there is nothing. If
// the filter has stopped the last part in order to buffer the body, that is everything that the
// pipe holds. Otherwise it is the part that was passed to the last body callback.
func (a *activeFilter) body() *bodyBuffer {
	switch {
	case a.buffering:
		return a.pipe.buffered
	case a.pipe.isRequest():
		return a.f.requestBody
	default:
		return a.f.responseBody
	}
}

// body returns the body that parameter 0 names, or nil if it names another buffer, no stream is
// current, or the filter has no body now.
func (c call) body() *bodyBuffer {
	f := c.in.current().filter
	if f == nil {
		return nil
	}

	switch c.u32(0) {
	case bufferRequestBody:
		return f.decode.body()
	case bufferResponseBody:
		return f.encode.body()
	}
	return nil
}

// bufferContent returns the content of the buffer that parameter 0 names. As in Envoy
// (Context::getBuffer), the status of a buffer that the module cannot read now differs:
//
//   - a body, and any buffer that this host never fills, is empty, with OK;
//   - the answer to a callout outside of its callback is NotFound, and so is the configuration of
//     the plugin unless the plugin is being configured. That of the VM can always be read;
//   - a number that the ABI does not define is BadArgument.
func (c call) bufferContent() ([]byte, Status) {
	ctx, number := c.in.current(), c.u32(0)
	if int(number) >= len(bufferNames) {
		return nil, StatusBadArgument
	}

	switch number {
	case bufferRequestBody, bufferResponseBody:
		c.reportLateRead()
		if body := c.body(); body != nil {
			return body.bytes, StatusOK
		}

	case bufferCallBody:
		if ctx.root.response == nil {
			return nil, StatusNotFound
		}
		return ctx.root.response.body, StatusOK

	case bufferVMConfiguration:
		return c.in.vm.cfg.Configuration, StatusOK

	case bufferPluginConfiguration:
		if ctx.filter != nil || !ctx.root.configuring {
			return nil, StatusNotFound
		}
		return ctx.root.plugin.cfg.Configuration, StatusOK
	}
	return nil, StatusOK
}

// reportLateRead reports the misuse of a part of the request body that is neither held nor being
// passed to its callback any longer. Envoy returns bytes there that it does not own, so the call
// still succeeds here, except with [Config.Strict].
func (c call) reportLateRead() {
	f, during := c.in.current().filter, c.in.invocation.callback
	if f == nil || c.u32(0) != bufferRequestBody || during == cbRequestBody {
		return
	}

	if !f.decode.buffering && f.requestBody != nil {
		c.in.misuse(during, "proxy_get_buffer_bytes", "the part of the body that the last callback showed is gone")
	}
}

// getBuffer is proxy_get_buffer_bytes. Its parameters are 0 the buffer, 1 the start and 2 the
// length of the bytes to read, and 3 and 4 where to return them. It returns as many as there are.
func (c call) getBuffer() Status {
	content, st := c.bufferContent()
	if st != StatusOK {
		return st
	}

	size := uint64(len(content))
	start, length := uint64(c.u32(1)), uint64(c.u32(2))
	if start > size {
		return c.putBytes(3, nil)
	}
	return c.putBytes(3, content[start:min(start+length, size)])
}

// setBuffer is proxy_set_buffer_bytes. Its parameters are 0 the buffer, 1 the start and 2 the
// length of the bytes to replace, and 3 and 4 the new ones. Like Envoy (Buffer::copyFrom), it can
// only prepend to a body, append to it or replace all of it; a part of it cannot be replaced.
func (c call) setBuffer() Status {
	if _, st := c.bufferContent(); st != StatusOK {
		return st
	}
	body := c.body()
	if body == nil {
		return StatusBadArgument // the buffer cannot be changed
	}

	size := uint64(len(body.bytes))
	start, length, data := uint64(c.u32(1)), uint64(c.u32(2)), c.bytes(3)
	switch {
	case start == 0 && length == 0: // prepend
		body.bytes = slices.Concat(data, body.bytes)
	case start == 0 && length >= size: // replace
		body.bytes = slices.Clone(data)
	case start != 0 && start >= size: // append
		body.bytes = append(body.bytes, data...)
	default:
		return StatusBadArgument
	}

	return StatusOK
}

// bufferStatus is proxy_get_buffer_status. Its parameters are 0 the buffer, 1 where to return its
// size in bytes, and 2 where to return its flags, of which the ABI defines none.
func (c call) bufferStatus() Status {
	content, st := c.bufferContent()
	if st != StatusOK {
		return st
	}

	if st := c.put32(1, uint32(len(content))); st != StatusOK {
		return st
	}
	return c.put32(2, 0)
}
