<?php
// Slim 3 as its documentation sets it up. Its request reads X-Http-Method-Override for any method,
// and _METHOD in the body of a POST.
error_reporting(0);
require 'Slim/autoload.php';
require dirname(__DIR__) . '/counter.php';

$application = new Slim\App();
$read = fn ($request, $response) => $response->write('read');
$write = fn ($request, $response) => $response->write(counter(true));
$writes = ['POST', 'PUT', 'PATCH', 'DELETE'];

$application->get('/__counter', fn ($request, $response) => $response->write(counter(false)));
$application->get('/orders[/{id}]', $read);
$application->map($writes, '/orders[/{id}]', $write);
$application->get('/logout', $write);
foreach (['/search', '/login'] as $path) {
    $application->map(['GET', 'POST'], $path, $read);
    $application->map(array_slice($writes, 1), $path, $write);
}
$application->any('/tenant', fn ($request, $response) => $request->getUri()->getHost() === 'orders.test' && in_array($request->getMethod(), $writes, true)
    ? $write($request, $response) : $read($request, $response));
$application->any('/healthz', $read);
// The tests of forged headers read here what the proxy tells the application.
$application->get('/bypass', fn ($request, $response) => $response->write($_SERVER['HTTP_X_DRYDOCK_BYPASS'] ?? ''));
$application->run();
