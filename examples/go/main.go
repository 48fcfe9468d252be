// Streams one answer. Generate the stubs first, from the checkout's root:
//
//	buf generate protos --template '{"version":"v2","managed":{"enabled":true,"override":[{"file_option":"go_package_prefix","value":"example/gen"}]},"plugins":[{"remote":"buf.build/protocolbuffers/go","out":"examples/go/gen","opt":"paths=source_relative"},{"remote":"buf.build/grpc/go","out":"examples/go/gen","opt":"paths=source_relative"}]}'
package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log"
	"time"

	baton "example/gen/baton/v1"

	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials/insecure"
	_ "google.golang.org/grpc/health" // lets the service config check health
)

const serviceConfig = `{"loadBalancingConfig": [{"round_robin": {}}],
  "healthCheckConfig": {"serviceName": "baton.v1.GenerationService"}}`

func main() {
	connection, err := grpc.NewClient("127.0.0.1:7450",
		grpc.WithTransportCredentials(insecure.NewCredentials()), grpc.WithDefaultServiceConfig(serviceConfig))
	if err != nil {
		log.Fatal(err)
	}
	defer connection.Close()
	ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
	defer cancel()
	maxTokens := uint32(32)
	stream, err := baton.NewGenerationServiceClient(connection).Generate(ctx, &baton.GenerateRequest{
		Prompt:   &baton.GenerateRequest_Text{Text: "def read_json(path):"},
		Sampling: &baton.SamplingParams{MaxTokens: &maxTokens},
	})
	if err != nil {
		log.Fatal(err)
	}
	for {
		response, err := stream.Recv()
		if errors.Is(err, io.EOF) {
			fmt.Println()
			return
		}
		if err != nil {
			log.Fatal(err)
		}
		for _, delta := range response.Deltas {
			fmt.Print(delta.Text)
		}
	}
}
