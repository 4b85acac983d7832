<?php
// Sends the requests of a plan with PHP's stream wrapper.
foreach (json_decode(file_get_contents($argv[1]), true) as $r) {
    $headers = [];
    foreach ($r['headers'] as $name => $value) $headers[] = "$name: $value";
    $options = ['method' => $r['method'], 'header' => $headers, 'ignore_errors' => true, 'user_agent' => 'PHP/' . PHP_VERSION];
    if (isset($r['body'])) $options['content'] = $r['body'];
    file_get_contents($r['url'], false, stream_context_create(['http' => $options]));
}
echo 'streams of PHP ', PHP_VERSION, "\n";
