// A gRPC service: one unary and one bidirectional call, and the standard health service. Its Function has protocol H2C.
package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log"
	"net"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/health"
	"google.golang.org/grpc/health/grpc_health_v1"
	"google.golang.org/protobuf/types/known/wrapperspb"

	"pilotlight.dev/examples/internal/serve"
)

// service is what protoc would have written for hello.proto.
var service = grpc.ServiceDesc{
	ServiceName: "pilotlight.examples.v1.Hello",
	HandlerType: (*any)(nil),
	Methods:     []grpc.MethodDesc{{MethodName: "Say", Handler: say}},
	Streams:     []grpc.StreamDesc{{StreamName: "Chat", Handler: chat, ServerStreams: true, ClientStreams: true}},
	Metadata:    "hello.proto",
}

func greeting(name string) *wrapperspb.StringValue {
	return wrapperspb.String(fmt.Sprintf("Hello, %s! (%s)", name, serve.Revision()))
}

func say(_ any, _ context.Context, decode func(any) error, _ grpc.UnaryServerInterceptor) (any, error) {
	name := new(wrapperspb.StringValue)
	if err := decode(name); err != nil {
		return nil, err
	}
	return greeting(name.GetValue()), nil
}

func chat(_ any, stream grpc.ServerStream) error {
	for {
		name := new(wrapperspb.StringValue)
		if err := stream.RecvMsg(name); errors.Is(err, io.EOF) {
			return nil
		} else if err != nil {
			return err
		}
		if err := stream.SendMsg(greeting(name.GetValue())); err != nil {
			return err
		}
	}
}

func main() {
	listener, err := net.Listen("tcp", ":"+serve.Port())
	if err != nil {
		log.Fatal(err)
	}
	server := grpc.NewServer()
	server.RegisterService(&service, nil)
	status := health.NewServer()
	grpc_health_v1.RegisterHealthServer(server, status)

	stopped := make(chan struct{})
	go func() {
		defer close(stopped)
		<-serve.Terminated().Done()
		status.Shutdown()
		// Streams that clients hold open without an end, such as a health watch, are cut off when the grace is over.
		cut := time.AfterFunc(serve.Grace, server.Stop)
		defer cut.Stop()
		server.GracefulStop()
	}()
	log.Printf("listening on port %s", serve.Port())
	if err := server.Serve(listener); err != nil {
		log.Fatal(err)
	}
	<-stopped
}
